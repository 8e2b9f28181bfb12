/* bits.h - binary range coder with probabilities that learn, both directions through the same calls: the model
 * (columns.c, pack.c) is written once, and what packs cannot differ from what unpacks. Memory only; any thread.
 *
 * The coder is that of LZMA: 32 bits of range, carries kept back in one byte and a run of 0xff; its first byte, always 0, is left out. A
 * probability is 15 bits of 16 and moves by 1/2, 1/3 … 1/LIMIT of the distance: quick at first, since a batch is short.
 * All of it is integer arithmetic and is part of form 1 of a record (SPOOL.md): it never changes. */
#ifndef PILLION_SPOOL_BITS_H
#define PILLION_SPOOL_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/buf.h"

struct chance {
    uint16_t zero;  /* of 65,536: how probable a 0 is */
    uint16_t turns; /* seen, up to the limit */
};

#define CHANCE_EVEN ((struct chance){.zero = 32768})

struct bits {
    bool reading;
    int err; /* writing: of the buffer; reading: -EBADMSG beyond the end. Sticks */
    uint32_t range;
    struct buf *out; /* writing */
    uint64_t low;
    bool begun;
    uint64_t held;           /* bytes that a carry can still change */
    uint8_t first;           /* of them; the others are 0xff */
    const unsigned char *in; /* reading */
    size_t len, at;
    uint32_t code;
};

void bits_write(struct bits *b, struct buf *out);
void bits_read(struct bits *b, const void *in, size_t len);
/* Writing: the rest; the buffer's error, if any. */
int bits_finish(struct bits *b);

/* Each takes the value when writing and returns it; when reading it returns what was written. */
unsigned bits_code(struct bits *b, struct chance *c, unsigned bit);
/* The n lowest bits, each as probable as the other; n up to 64. */
uint64_t bits_plain(struct bits *b, uint64_t v, unsigned n);
/* n bits with a chance for each prefix: tree[0] is not used, tree[1 << n] ends it. */
unsigned bits_tree(struct bits *b, struct chance *tree, unsigned n, unsigned v);
void chances_even(struct chance *c, size_t n);

/* How large numbers are, learnt: most of its bits are those of the length. */
struct sizes {
    struct chance length[128];
    struct chance top[17][4]; /* the two bits below the highest one, by length up to 16 */
};

void sizes_init(struct sizes *s);
uint64_t bits_number(struct bits *b, struct sizes *s, uint64_t v);

#endif
