/* names.c - two hash tables over growing arrays, open addressing, never emptied. The hash is seeded: a profile is somebody's input. */
#include "collectors/flamegraph/names.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/random.h>

#include "agent/base/limits.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "collectors/flamegraph/origin.h"

#define FIRST_SLOTS 1024

struct string {
    uint32_t at, len, hash;
};

struct table {
    uint32_t *slots; /* number + 1; 0: free */
    uint32_t mask;
};

struct names {
    uint64_t seed;
    char *pool;
    size_t pool_len, pool_cap;
    struct string *strings;
    uint32_t n_strings, cap_strings;
    struct frame *frames;
    uint32_t n_frames, cap_frames;
    struct table by_text, by_frame;
    char clean[3 * LIMIT_PROFILE_NAME_BYTES + 1];
};

static uint64_t mix(uint64_t a, uint64_t b) {
    __extension__ typedef unsigned __int128 wide;
    wide m = (wide)(a ^ 0x9e3779b97f4a7c15u) * (b ^ 0xbf58476d1ce4e5b9u);

    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

static uint32_t hash_bytes(uint64_t h, const char *p, size_t n) {
    uint64_t a, b;

    h ^= n;
    for (; n >= 16; n -= 16, p += 16) {
        memcpy(&a, p, 8);
        memcpy(&b, p + 8, 8);
        h = mix(a ^ h, b);
    }
    if (n >= 8) {
        memcpy(&a, p, 8);
        memcpy(&b, p + n - 8, 8);
        h = mix(a ^ h, b);
    } else if (n > 0) {
        a = 0;
        memcpy(&a, p, n);
        h = mix(a ^ h, n);
    }
    return (uint32_t)(h ^ h >> 32);
}

static uint32_t hash_frame(uint64_t seed, uint32_t name, uint32_t url, int32_t line,
                           int32_t column) {
    uint64_t h =
        mix((uint64_t)name << 32 | url, seed ^ ((uint64_t)(uint32_t)line << 32 | (uint32_t)column));

    return (uint32_t)(h ^ h >> 32);
}

static int table_init(struct table *t) {
    t->slots = mem_calloc(FIRST_SLOTS, sizeof(*t->slots));
    t->mask = FIRST_SLOTS - 1;
    return t->slots != NULL ? 0 : -ENOMEM;
}

static uint32_t frame_hash_of(const struct names *n, uint32_t i) {
    const struct frame *f = &n->frames[i];

    return hash_frame(n->seed, f->name, f->url, f->line, f->column);
}

/* Twice as many slots once half of them are taken. */
static int table_grow(struct names *n, struct table *t, uint32_t used) {
    uint32_t mask = t->mask * 2 + 1, *slots;

    if (used < t->mask / 2)
        return 0;
    slots = mem_calloc((size_t)mask + 1, sizeof(*slots));
    if (slots == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < used; i++) {
        uint32_t h = t == &n->by_text ? n->strings[i].hash : frame_hash_of(n, i);

        while (slots[h & mask] != 0)
            h++;
        slots[h & mask] = i + 1;
    }
    mem_free(t->slots);
    t->slots = slots;
    t->mask = mask;
    return 0;
}

int names_new(struct names **ret) {
    struct names *n = mem_calloc(1, sizeof(*n));
    uint32_t zero;
    int rc = -ENOMEM;

    if (n == NULL)
        return -ENOMEM;
    if (getrandom(&n->seed, sizeof(n->seed), GRND_NONBLOCK) != sizeof(n->seed))
        n->seed = (uintptr_t)n; /* early in a boot: the address will do */
    if (table_init(&n->by_text) == 0 && table_init(&n->by_frame) == 0)
        rc = names_string(n, "", 0, &zero);
    if (rc == 0)
        rc = names_frame(n, 0, 0, -1, 0, &zero); /* no function of a profile has this line */
    if (rc != 0) {
        names_free(n);
        return rc;
    }
    n->frames[0].origin = ORIGIN_ROOT;
    *ret = n;
    return 0;
}

void names_free(struct names *n) {
    if (n == NULL)
        return;
    mem_free(n->pool);
    mem_free(n->strings);
    mem_free(n->frames);
    mem_free(n->by_text.slots);
    mem_free(n->by_frame.slots);
    mem_free(n);
}

/* A free slot or that of the string. */
static uint32_t find_text(const struct names *n, uint32_t hash, const char *p, size_t len) {
    uint32_t h = hash, i;

    while ((i = n->by_text.slots[h & n->by_text.mask]) != 0) {
        const struct string *s = &n->strings[i - 1];

        if (s->hash == hash && s->len == len && memcmp(n->pool + s->at, p, len) == 0)
            break;
        h++;
    }
    return h & n->by_text.mask;
}

static int grow(void **array, uint32_t n, uint32_t *cap, size_t size) {
    uint32_t more = n < 256 ? 512 : n + n / 2;
    void *p;

    if (n < *cap)
        return 0;
    p = mem_realloc(*array, more * size);
    if (p == NULL)
        return -ENOMEM;
    *array = p;
    *cap = more;
    return 0;
}

static int pool_add(struct names *n, const char *p, size_t len) {
    if (n->pool_len + len + 1 > n->pool_cap) {
        size_t cap = (n->pool_len + len + 1) * 3 / 2 + 4096;
        char *pool;

        if (n->pool_len + len + 1 > LIMIT_PROFILE_TEXT_BYTES)
            return -EFBIG;
        pool = mem_realloc(n->pool, cap);
        if (pool == NULL)
            return -ENOMEM;
        n->pool = pool;
        n->pool_cap = cap;
    }
    if (len > 0)
        memcpy(n->pool + n->pool_len, p, len);
    n->pool[n->pool_len + len] = '\0';
    n->pool_len += len + 1;
    return 0;
}

static int add_text(struct names *n, uint32_t hash, uint32_t slot, const char *p, size_t len,
                    uint32_t *ret) {
    struct string s = {(uint32_t)n->pool_len, (uint32_t)len, hash};
    int rc = grow((void **)&n->strings, n->n_strings, &n->cap_strings, sizeof(*n->strings));

    if (rc == 0)
        rc = table_grow(n, &n->by_text, n->n_strings);
    if (rc == 0)
        rc = pool_add(n, p, len);
    if (rc != 0)
        return rc;
    slot = find_text(n, hash, p, len); /* the table may be another one */
    n->strings[n->n_strings++] = s;
    n->by_text.slots[slot] = n->n_strings;
    *ret = n->n_strings - 1;
    return 0;
}

/* Into n->clean: what is not UTF-8 becomes U+FFFD, control characters blanks. */
static size_t clean_text(struct names *n, const char *p, size_t len) {
    char *out = n->clean, copy[8] = {0};

    for (size_t i = 0, k; i < len; i += k) {
        size_t left = len - i;

        memcpy(copy, p + i, left < 4 ? left : 4);
        if (left < 4)
            copy[left] = '\0';
        k = text_utf8_len((const unsigned char *)copy);
        if (k == 0 || (k == 1 && copy[0] == '\0')) {
            memcpy(out, "\xef\xbf\xbd", 3);
            out += 3;
            k = 1;
        } else if (k == 1 && ((unsigned char)copy[0] < ' ' || copy[0] == 0x7f)) {
            *out++ = ' ';
        } else {
            memcpy(out, copy, k);
            out += k;
        }
    }
    return (size_t)(out - n->clean);
}

int names_string(struct names *n, const char *p, size_t len, uint32_t *ret) {
    uint32_t hash, slot;

    len = len < LIMIT_PROFILE_NAME_BYTES ? len : LIMIT_PROFILE_NAME_BYTES;
    for (int pass = 0;; pass++) {
        hash = hash_bytes(n->seed, p, len);
        slot = find_text(n, hash, p, len);
        if (n->by_text.slots[slot] != 0) {
            *ret = n->by_text.slots[slot] - 1;
            return 0;
        }
        if (pass == 1)
            return add_text(n, hash, slot, p, len, ret);
        len = clean_text(n, p, len);
        p = n->clean;
    }
}

static uint32_t find_frame(const struct names *n, const struct frame *f) {
    uint32_t h = hash_frame(n->seed, f->name, f->url, f->line, f->column), i;

    while ((i = n->by_frame.slots[h & n->by_frame.mask]) != 0) {
        const struct frame *g = &n->frames[i - 1];

        if (g->name == f->name && g->url == f->url && g->line == f->line && g->column == f->column)
            break;
        h++;
    }
    return h & n->by_frame.mask;
}

int names_frame(struct names *n, uint32_t name, uint32_t url, int32_t line, int32_t column,
                uint32_t *ret) {
    struct frame f = {name, url, line, column, 0, 0};
    uint32_t slot = find_frame(n, &f);
    const char *package;
    size_t len;
    int rc;

    if (n->by_frame.slots[slot] != 0) {
        *ret = n->by_frame.slots[slot] - 1;
        return 0;
    }
    f.origin = (uint8_t)origin_of(names_text(n, name), names_text(n, url), &package, &len);
    if (f.origin == ORIGIN_PACKAGE) {
        char copy[LIMIT_PROFILE_NAME_BYTES]; /* `package` points into the pool, which may move */

        memcpy(copy, package, len);
        rc = names_string(n, copy, len, &f.package);
        if (rc != 0)
            return rc;
    }
    rc = grow((void **)&n->frames, n->n_frames, &n->cap_frames, sizeof(*n->frames));
    if (rc == 0)
        rc = table_grow(n, &n->by_frame, n->n_frames);
    if (rc != 0)
        return rc;
    slot = find_frame(n, &f);
    n->frames[n->n_frames++] = f;
    n->by_frame.slots[slot] = n->n_frames;
    *ret = n->n_frames - 1;
    return 0;
}

uint32_t names_strings(const struct names *n) {
    return n->n_strings;
}

uint32_t names_frames(const struct names *n) {
    return n->n_frames;
}

const char *names_text(const struct names *n, uint32_t string) {
    return n->pool + n->strings[string].at;
}

const struct frame *names_at(const struct names *n, uint32_t frame) {
    return &n->frames[frame];
}

const char *names_function(const struct names *n, uint32_t frame) {
    const char *name = names_text(n, n->frames[frame].name);

    return frame == 0 ? "(root)" : name[0] != '\0' ? name : "(anonymous)";
}

size_t names_place(const struct names *n, uint32_t frame, char *out, size_t size) {
    const struct frame *f = &n->frames[frame];
    const char *url = names_text(n, f->url);
    int len;

    if (text_starts(url, "file://"))
        url += strlen("file://");
    if (url[0] == '\0' || f->line <= 0)
        len = snprintf(out, size, "%s", url);
    else if (f->column <= 0)
        len = snprintf(out, size, "%s:%d", url, f->line);
    else
        len = snprintf(out, size, "%s:%d:%d", url, f->line, f->column);
    return len < 0 ? 0 : (size_t)len < size ? (size_t)len : size - 1;
}
