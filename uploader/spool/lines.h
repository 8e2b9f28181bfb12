/* lines.h - the lines of a batch in pieces, coded by what came before. One for each batch; memory only; any thread.
 *
 * A piece is a word (all text up to a value: `,"process.uptime":`) and the value behind it. Words and strings are kept
 * in one table, numbered as they come; the words of spool_words[] are in it from the start. */
#ifndef PILLION_SPOOL_LINES_H
#define PILLION_SPOOL_LINES_H

#include "uploader/spool/bits.h"
#include "uploader/spool/column.h"

enum piece_kind {
    PIECE_END,     /* no value: the line ends with the word */
    PIECE_NOTHING, /* no value, and the line goes on */
    PIECE_NUMBER,
    PIECE_STRING, /* between its quotes, as it stands there */
    PIECE_TIME,   /* a string "2026-11-23T18:31:09.017Z": ms since 1970 */
    PIECE_RAW     /* true, false, null, and numbers that are not written in our way */
};

struct piece {
    const char *word, *text; /* text: the value, whatever the kind */
    size_t word_len, text_len;
    enum piece_kind kind;
    struct decimal number; /* PIECE_NUMBER; PIECE_TIME: ms in m */
};

struct lines;

int lines_new(struct lines **ret);
void lines_free(struct lines *l);
/* Codes one line, of which the last piece, and no other, is PIECE_END. Errors stick in b->err: -ENOMEM, -EBADMSG too
 * many texts. */
void lines_write(struct lines *l, struct bits *b, const struct piece *pieces, size_t n);
/* Appends one line and its newline. Errors stick in b->err: -EBADMSG, also when `out` would grow beyond its cap;
 * -ENOMEM. */
void lines_read(struct lines *l, struct bits *b, struct buf *out);

/* What lines begin and go on with in this version, in their order. */
extern const char *const spool_words[];
extern const unsigned spool_words_n;

#endif
