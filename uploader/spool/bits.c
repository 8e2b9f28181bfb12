#include "uploader/spool/bits.h"

#include <errno.h>

#include "agent/base/mem.h"

#define TOP        (1u << 24)
#define TURNS_MOST 60
/* Never quite sure: 1 bit in 20,000 at least. */
#define SURE 3

void bits_write(struct bits *b, struct buf *out) {
    *b = (struct bits){.range = UINT32_MAX, .out = out, .held = 1};
}

static uint32_t next_byte(struct bits *b) {
    if (b->at < b->len)
        return b->in[b->at++];
    b->err = -EBADMSG;
    return 0;
}

void bits_read(struct bits *b, const void *in, size_t len) {
    *b = (struct bits){.reading = true, .range = UINT32_MAX, .in = in, .len = len};
    for (int i = 0; i < 4; i++)
        b->code = b->code << 8 | next_byte(b);
}

/* The highest byte goes out, unless a carry may still come. */
static void shift(struct bits *b) {
    if (b->low < 0xff000000u || b->low > UINT32_MAX) {
        uint8_t carry = (uint8_t)(b->low >> 32), byte = b->first;

        for (; b->held > 0; b->held--, byte = 0xff) {
            if (b->begun)
                buf_putc(b->out, (char)(uint8_t)(byte + carry));
            b->begun = true; /* the very first one is always 0 */
        }
        b->first = (uint8_t)(b->low >> 24);
    }
    b->held++;
    b->low = (b->low & 0x00ffffff) << 8;
}

int bits_finish(struct bits *b) {
    for (int i = 0; i < 5; i++)
        shift(b);
    b->err = b->out->err;
    return b->err;
}

static void narrow(struct bits *b) {
    while (b->range < TOP) {
        b->range <<= 8;
        if (b->reading)
            b->code = b->code << 8 | next_byte(b);
        else
            shift(b);
    }
}

unsigned bits_code(struct bits *b, struct chance *c, unsigned bit) {
    /* 65536 / (n + 1.5), as the rate after n turns. */
    static const uint16_t rates[61] = {
        43691, 26214, 18725, 14564, 11916, 10082, 8738, 7710, 6899, 6242, 5699, 5243, 4855,
        4520,  4228,  3972,  3745,  3542,  3361,  3197, 3048, 2913, 2789, 2675, 2570, 2473,
        2383,  2300,  2222,  2149,  2081,  2016,  1956, 1900, 1846, 1796, 1748, 1702, 1659,
        1618,  1579,  1542,  1507,  1473,  1440,  1409, 1380, 1351, 1324, 1298, 1273, 1248,
        1225,  1202,  1181,  1160,  1140,  1120,  1101, 1083, 1066};
    uint32_t chance = (c->zero >> 1) < SURE           ? SURE
                      : (c->zero >> 1) > 32768 - SURE ? 32768 - SURE
                                                      : c->zero >> 1,
             bound = (b->range >> 15) * chance, rate = rates[c->turns];

    if (b->reading)
        bit = b->code >= bound;
    if (bit == 0) {
        b->range = bound;
        c->zero = (uint16_t)(c->zero + (((65535u - c->zero) * rate) >> 16));
    } else {
        b->range -= bound;
        c->zero = (uint16_t)(c->zero - ((c->zero * rate) >> 16));
        if (b->reading)
            b->code -= bound;
        else
            b->low += bound;
    }
    c->turns = (uint16_t)(c->turns + (c->turns < TURNS_MOST));
    narrow(b);
    return bit;
}

uint64_t bits_plain(struct bits *b, uint64_t v, unsigned n) {
    uint64_t got = 0;

    while (n > 0) {
        unsigned bit = (unsigned)(v >> --n) & 1;

        b->range >>= 1;
        if (b->reading) {
            bit = b->code >= b->range;
            b->code -= bit ? b->range : 0;
        } else {
            b->low += bit ? b->range : 0;
        }
        got = got << 1 | bit;
        narrow(b);
    }
    return got;
}

unsigned bits_tree(struct bits *b, struct chance *tree, unsigned n, unsigned v) {
    unsigned at = 1, all = 1u << n;

    while (n > 0)
        at = at << 1 | bits_code(b, &tree[at], (v >> --n) & 1);
    return at - all;
}

void chances_even(struct chance *c, size_t n) {
    for (size_t i = 0; i < n; i++)
        c[i] = CHANCE_EVEN;
}

void sizes_init(struct sizes *s) {
    chances_even(s->length, ARRAY_LEN(s->length));
    chances_even(&s->top[0][0], ARRAY_LEN(s->top) * ARRAY_LEN(s->top[0]));
}

uint64_t bits_number(struct bits *b, struct sizes *s, uint64_t v) {
    unsigned length = v > 0 ? 64 - (unsigned)__builtin_clzll(v) : 0, left, at = 1;

    length = bits_tree(b, s->length, 7, length);
    if (length > 64) { /* nobody wrote that */
        b->err = -EBADMSG;
        return 0;
    }
    if (length < 2)
        return length;
    left = length - 1;
    for (int i = 0; i < 2 && left > 0; i++) {
        left--;
        at = at << 1 | bits_code(b, &s->top[length < 16 ? length : 16][at], (v >> left) & 1);
    }
    return (uint64_t)at << left |
           bits_plain(b, v & ((left > 0 ? (uint64_t)1 << left : 1) - 1), left);
}
