/* names.h - the different strings and functions (frames) of a profile, each kept once and known by a number.
 *
 * Strings are UTF-8 without control characters whatever was in the file: writers need not look again. Number 0 of both is the empty
 * string and the root. Frames are told apart by name, URL, line and column, so that functions on the one line of a minified file
 * stay apart. */
#ifndef PILLION_FLAMEGRAPH_NAMES_H
#define PILLION_FLAMEGRAPH_NAMES_H

#include <stddef.h>
#include <stdint.h>

enum origin {
    ORIGIN_ROOT,
    ORIGIN_APP,
    ORIGIN_PACKAGE, /* below node_modules */
    ORIGIN_CORE,    /* Node.js itself: node:… */
    ORIGIN_NATIVE,  /* V8's builtins, regular expressions, WebAssembly, (program) */
    ORIGIN_GC,
    ORIGIN_IDLE,
};
#define ORIGINS 7

struct frame {
    uint32_t name, url;
    int32_t line, column; /* from 1; 0: not known */
    uint32_t package;     /* a string; ORIGIN_PACKAGE only */
    uint8_t origin;       /* enum origin */
};

struct names;

int names_new(struct names **ret);
void names_free(struct names *n);

/* -ENOMEM; -EFBIG beyond LIMIT_PROFILE_TEXT_BYTES. */
int names_string(struct names *n, const char *p, size_t len, uint32_t *ret);
int names_frame(struct names *n, uint32_t name, uint32_t url, int32_t line, int32_t column,
                uint32_t *ret);

uint32_t names_strings(const struct names *n);
uint32_t names_frames(const struct names *n);
/* Terminated; valid until the next string comes. */
const char *names_text(const struct names *n, uint32_t string);
const struct frame *names_at(const struct names *n, uint32_t frame);

/* "app", "package" … */
const char *origin_name(enum origin origin);
/* Where a function stands, as people read it: its own name or "(anonymous)", and FILE:LINE:COLUMN without "file://" ("" when it is
 * nowhere). Cut to fit. */
const char *names_function(const struct names *n, uint32_t frame);
size_t names_place(const struct names *n, uint32_t frame, char *out, size_t size);

#endif
