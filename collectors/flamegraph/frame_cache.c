#include "collectors/flamegraph/frame_cache.h"

#include <errno.h>
#include <sys/random.h>

#include "agent/base/mem.h"

#define FIRST_SLOTS 1024
#define MOST        65536

struct slot {
    struct frame_key key;
    uint32_t frame; /* 0: free */
};

struct frame_cache {
    uint64_t seed[2];
    struct slot *slots;
    uint32_t mask, used;
};

int frame_cache_new(struct frame_cache **ret) {
    struct frame_cache *c = mem_calloc(1, sizeof(*c));

    if (c == NULL)
        return -ENOMEM;
    if (getrandom(c->seed, sizeof(c->seed), GRND_NONBLOCK) != sizeof(c->seed))
        c->seed[0] = (uintptr_t)c;
    c->slots = mem_calloc(FIRST_SLOTS, sizeof(*c->slots));
    c->mask = FIRST_SLOTS - 1;
    if (c->slots == NULL) {
        mem_free(c);
        return -ENOMEM;
    }
    *ret = c;
    return 0;
}

void frame_cache_free(struct frame_cache *c) {
    if (c == NULL)
        return;
    mem_free(c->slots);
    mem_free(c);
}

static inline uint64_t mix(uint64_t a, uint64_t b) {
    __extension__ typedef unsigned __int128 wide;
    wide m = (wide)a * b;

    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

/* Two lanes that do not wait for each other. */
struct frame_key frame_cache_key(const struct frame_cache *c, const void *text, size_t len) {
    const unsigned char *p = text;
    uint64_t a = c->seed[0] ^ len, b = c->seed[1] + len, x, y;
    unsigned char last[16] = {0};

    for (; len >= 16; len -= 16, p += 16) {
        memcpy(&x, p, 8);
        memcpy(&y, p + 8, 8);
        a = mix(a ^ x ^ 0x9e3779b97f4a7c15u, y ^ c->seed[1] ^ 0xbf58476d1ce4e5b9u) + x;
        b = mix(b ^ y ^ 0x94d049bb133111ebu, x ^ c->seed[0] ^ 0xd6e8feb86659fd93u) + y;
    }
    memcpy(last, p, len);
    memcpy(&x, last, 8);
    memcpy(&y, last + 8, 8);
    a = mix(a ^ x ^ 0x9e3779b97f4a7c15u, y ^ c->seed[1] ^ 0xbf58476d1ce4e5b9u);
    b = mix(b ^ y ^ 0x94d049bb133111ebu, x ^ c->seed[0] ^ 0xd6e8feb86659fd93u);
    return (struct frame_key){a, b};
}

static struct slot *place(struct slot *slots, uint32_t mask, struct frame_key key) {
    uint32_t h = (uint32_t)(key.a ^ key.a >> 32);

    while (slots[h & mask].frame != 0 &&
           (slots[h & mask].key.a != key.a || slots[h & mask].key.b != key.b))
        h++;
    return &slots[h & mask];
}

uint32_t frame_cache_find(const struct frame_cache *c, struct frame_key key) {
    return place(c->slots, c->mask, key)->frame;
}

static void grow(struct frame_cache *c) {
    uint32_t mask = c->mask * 2 + 1;
    struct slot *slots = mem_calloc((size_t)mask + 1, sizeof(*slots));

    if (slots == NULL)
        return;
    for (uint32_t i = 0; i <= c->mask; i++)
        if (c->slots[i].frame != 0)
            *place(slots, mask, c->slots[i].key) = c->slots[i];
    mem_free(c->slots);
    c->slots = slots;
    c->mask = mask;
}

void frame_cache_add(struct frame_cache *c, struct frame_key key, uint32_t frame) {
    struct slot *s;

    if (c->used >= c->mask / 2 && c->used < MOST)
        grow(c);
    if (c->used >= c->mask / 2 || c->used >= MOST)
        return;
    s = place(c->slots, c->mask, key);
    c->used += s->frame == 0;
    *s = (struct slot){key, frame};
}
