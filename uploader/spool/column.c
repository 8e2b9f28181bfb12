/* One number: is it what it was (one bit, mostly all) -> else how many places the key needs, then the distance to the
 * best of GUESSES guesses, which is the one that was nearest lately. Digits beyond nine places follow by themselves:
 * they are what floating point left behind. */
#include "uploader/spool/column.h"

#include <errno.h>

#include "agent/base/mem.h"

#define PLACES_MOST 9
#define COPY_LEAST  1000
#define SHIFT_FIRST 12 /* a page: memory comes in multiples of something */

enum {
    STAYS,
    GOES_ON,
    WITH_NEIGHBOUR,
    AGAINST_NEIGHBOUR,
    AS_NEIGHBOUR,
    AS_OTHERS,
    WITH_OTHERS,
    GUESSES
};

struct changes {
    struct chance copy, copy_tree[1 << RECENT_BITS], raise, places_tree[16], long_ones[2],
        extra_tree[16], sign[GUESSES], even;
    struct sizes distance;
    struct sizes *rest; /* NULL until digits follow */
    uint8_t places, shift;
    bool was_long;
    uint16_t miss[GUESSES]; /* bits of distance lately, × 16 */
};

void column_init(struct column *c) {
    *c = (struct column){.changes = NULL};
    chances_even(c->same, ARRAY_LEN(c->same));
}

void column_clear(struct column *c) {
    if (c->changes != NULL)
        mem_free(c->changes->rest);
    mem_free(c->changes);
    c->changes = NULL;
}

static struct changes *new_changes(void) {
    struct changes *g = mem_calloc(1, sizeof(*g));

    if (g == NULL)
        return NULL;
    g->raise = g->even = g->copy = CHANCE_EVEN;
    chances_even(g->copy_tree, ARRAY_LEN(g->copy_tree));
    chances_even(g->places_tree, ARRAY_LEN(g->places_tree));
    chances_even(g->extra_tree, ARRAY_LEN(g->extra_tree));
    chances_even(g->long_ones, ARRAY_LEN(g->long_ones));
    chances_even(g->sign, ARRAY_LEN(g->sign));
    sizes_init(&g->distance);
    g->shift = SHIFT_FIRST;
    return g;
}

bool column_takes(const struct column *c, const struct decimal *n) {
    return decimal_fits(n, c->changes != NULL ? c->changes->places : 0);
}

static uint64_t size_of(int64_t v) {
    return v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
}

static int64_t add(int64_t a, int64_t b) {
    return (int64_t)((uint64_t)a + (uint64_t)b);
}

static int64_t step_at(const struct past *p, unsigned places) {
    struct decimal step = {.m = p->step, .d = p->places};

    return decimal_at(&step, places);
}

static void guess(const struct column *c, const struct past *base, const struct neighbour *near,
                  unsigned places, int64_t out[GUESSES]) {
    int64_t v = decimal_at(&base->n, places), step = near->step_places == places ? near->step : 0;

    out[STAYS] = v;
    out[GOES_ON] = add(v, step_at(base, places));
    out[WITH_NEIGHBOUR] = add(v, step);
    out[AGAINST_NEIGHBOUR] = add(v, (int64_t)(0 - (uint64_t)step));
    out[AS_NEIGHBOUR] = near->places == places ? near->v : v;
    out[AS_OTHERS] = decimal_at(&c->last.n, places);
    out[WITH_OTHERS] = add(v, step_at(&c->last, places));
}

static unsigned best(const struct changes *g) {
    unsigned k = 0;

    for (unsigned i = 1; i < GUESSES; i++)
        if (g->miss[i] < g->miss[k])
            k = i;
    return k;
}

static void learn(struct changes *g, const int64_t guesses[GUESSES], int64_t v) {
    for (unsigned i = 0; i < GUESSES; i++) {
        uint64_t miss = size_of(add(v, (int64_t)(0 - (uint64_t)guesses[i])));
        unsigned bits = miss > 0 ? 64 - (unsigned)__builtin_clzll(miss) : 0;

        g->miss[i] = (uint16_t)(g->miss[i] - g->miss[i] / 4 + bits * 16);
    }
}

/* Multiples of a power of two are coded without its zeros, as long as they are some. */
static int64_t code_distance(struct bits *b, struct changes *g, unsigned k, int64_t distance) {
    uint64_t size = size_of(distance);
    unsigned shift = g->places == 0 ? g->shift : 0;

    if (shift > 0 && bits_code(b, &g->even, (size & (((uint64_t)1 << shift) - 1)) != 0))
        shift = 0;
    size = bits_number(b, &g->distance, size >> shift) << shift;
    if (g->places == 0 && shift == 0 && size > 0 && g->shift > 0)
        g->shift =
            (uint8_t)((unsigned)__builtin_ctzll(size) < g->shift ? (unsigned)__builtin_ctzll(size)
                                                                 : g->shift);
    if (size > 0 && bits_code(b, &g->sign[k], distance < 0))
        return (int64_t)(0 - size);
    return (int64_t)size;
}

/* How many places; true when digits beyond follow. */
static bool code_places(struct bits *b, struct changes *g, unsigned d) {
    bool is_long;
    unsigned need = d < PLACES_MOST ? d : PLACES_MOST;

    if (bits_code(b, &g->raise, need > g->places)) {
        unsigned before = g->places;

        g->places = (uint8_t)bits_tree(b, g->places_tree, 4, need);
        if (g->places <= before || g->places > PLACES_MOST) {
            b->err = -EBADMSG; /* nobody wrote that */
            return false;
        }
    }
    is_long =
        g->places >= PLACES_MOST && bits_code(b, &g->long_ones[g->was_long], d > PLACES_MOST) != 0;
    if (is_long && g->rest == NULL) {
        g->rest = mem_alloc(sizeof(*g->rest));
        if (g->rest != NULL)
            sizes_init(g->rest);
        else
            b->err = -ENOMEM;
    }
    g->was_long = is_long;
    return is_long;
}

/* The digits behind the ninth place: what has to be added to v × 10^extra. */
static void code_rest(struct bits *b, struct changes *g, int64_t v, struct decimal *n) {
    unsigned extra = bits_tree(b, g->extra_tree, 4, n->d - PLACES_MOST);
    uint64_t whole = (uint64_t)v * decimal_power(extra), rest = (uint64_t)n->m - whole,
             folded = rest << 1 ^ (rest >> 63 ? UINT64_MAX : 0);

    folded = bits_number(b, g->rest, folded);
    rest = folded >> 1 ^ (folded & 1 ? UINT64_MAX : 0);
    *n = (struct decimal){.m = (int64_t)(whole + rest), .d = PLACES_MOST + extra};
}

static void trim(struct decimal *n) {
    while (n->d > 0 && n->m % 10 == 0) {
        n->m /= 10;
        n->d--;
    }
}

/* The same digits as a value just before it: a percentile is often the maximum. Small numbers are shorter by themselves. */
static bool code_copy(struct bits *b, struct changes *g, struct neighbour *near,
                      struct decimal *n) {
    const unsigned most = ARRAY_LEN(near->recent);
    unsigned have = near->recent_n < most ? near->recent_n : most, back = 0;
    bool found = false;

    if (have == 0)
        return false;
    if (!b->reading && size_of(n->m) >= COPY_LEAST)
        for (; back < have && !found; back += !found) {
            const struct decimal *r = &near->recent[(near->recent_n - 1 - back) % most];

            found = r->m == n->m && r->d == n->d;
        }
    if (bits_code(b, &g->copy, !found) != 0)
        return false;
    back = bits_tree(b, g->copy_tree, RECENT_BITS, back);
    if (back >= have)
        b->err = -EBADMSG; /* nobody wrote that */
    else
        *n = near->recent[(near->recent_n - 1 - back) % most];
    return true;
}

static void code_change(struct bits *b, struct column *c, const struct past *base,
                        struct neighbour *near, struct decimal *n) {
    struct changes *g = c->changes;
    int64_t guesses[GUESSES], v;
    unsigned k = best(g);
    bool is_long;

    if (code_copy(b, g, near, n))
        return;
    is_long = code_places(b, g, n->d);
    if (b->err != 0)
        return;
    v = decimal_at(n, g->places);
    guess(c, base, near, g->places, guesses);
    v = add(guesses[k], code_distance(b, g, k, add(v, (int64_t)(0 - (uint64_t)guesses[k]))));
    learn(g, guesses, v);
    if (is_long) {
        code_rest(b, g, v, n);
    } else {
        *n = (struct decimal){.m = v, .d = g->places};
        trim(n);
    }
    if (size_of(n->m) >= DECIMAL_M_END)
        b->err = b->err != 0 ? b->err : -EBADMSG; /* nobody wrote that */
    near->recent[near->recent_n++ % ARRAY_LEN(near->recent)] = *n;
}

void column_code(struct bits *b, struct column *c, struct past *p, struct neighbour *near,
                 struct decimal *n) {
    const struct past base = p->seen ? *p : (struct past){.n = c->last.n};
    unsigned know = p->seen ? (p->runs & 3u) : 4, places;
    bool same =
        bits_code(b, &c->same[2 * know + near->same], !(n->m == base.n.m && n->d == base.n.d)) == 0;

    if (same) {
        *n = base.n;
    } else {
        if (c->changes == NULL)
            c->changes = new_changes();
        if (c->changes == NULL)
            b->err = -ENOMEM;
        if (b->err != 0)
            return;
        code_change(b, c, &base, near, n);
        if (b->err != 0)
            return;
    }
    places = c->changes != NULL ? c->changes->places : 0;
    near->v = decimal_at(n, places);
    near->places = p->places = (uint8_t)places;
    p->step = p->seen ? add(near->v, (int64_t)(0 - (uint64_t)decimal_at(&base.n, places))) : 0;
    if (p->step != 0) {
        near->step = p->step;
        near->step_places = (uint8_t)places;
    }
    near->same = same;
    p->n = *n;
    p->seen = 1;
    p->runs = (uint8_t)(p->runs << 1 | same);
    c->last = *p;
}
