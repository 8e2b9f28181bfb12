/* spool_bed.h - for the tests of the spool: a spool of its own, records that tell which they are, reading them back. */
#ifndef PILLION_TEST_SPOOL_BED_H
#define PILLION_TEST_SPOOL_BED_H

#include "batches.h"

#include "agent/base/buf.h"
#include "uploader/spool/positions.h"
#include "uploader/spool/spool.h"

#define MIB      (1024u * 1024u)
#define BIG      (64u * MIB)
#define SINK     "file:/somewhere"
#define RECORDS  5
#define DATA_MAX 240

struct bed {
    char dir[64], path[80];
    struct spool *s;
    int place;
};

/* In memory where that can be had: thousands of beds, and each makes its spool durable. */
static UNUSED void make_bed_dir(struct bed *b) {
    memset(b, 0, sizeof(*b));
    (void)snprintf(b->dir, sizeof(b->dir), "%s/pillion-spool-XXXXXX",
                   access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(b->dir));
    (void)snprintf(b->path, sizeof(b->path), "%s/spool", b->dir);
}

static UNUSED void bed_open(struct bed *b, uint64_t max_bytes) {
    char why[512];

    assert_int_equal(spool_new(&b->s, b->path, max_bytes), 0);
    b->place = spool_claim(b->s, SINK);
    assert_int_equal(b->place, 0);
    if (spool_open(b->s, why, sizeof(why)) != 0)
        fail_msg("%s", why);
}

static UNUSED void bed_new(struct bed *b, uint64_t max_bytes) {
    make_bed_dir(b);
    bed_open(b, max_bytes);
}

static UNUSED void bed_again(struct bed *b, uint64_t max_bytes) {
    spool_free(b->s);
    bed_open(b, max_bytes);
}

static UNUSED void remove_all(const char *dir) {
    char out[16];

    (void)shell(out, sizeof(out), "rm -rf %s", dir);
}

static UNUSED void bed_close(struct bed *b) {
    spool_free(b->s);
    remove_all(b->dir);
    assert_int_equal(mem_live(), 0);
}

/* Contents that tell which record it is; length and bytes depend on n. */
static UNUSED size_t make_data(unsigned char *out, uint64_t n, size_t len) {
    uint32_t x = (uint32_t)n * 2654435761u + 1;

    for (size_t i = 0; i < len; i++) {
        x = x * 1664525u + 1013904223u;
        out[i] = (unsigned char)(x >> 24);
    }
    return len;
}

static UNUSED size_t length_of(uint64_t n) {
    return 100 + (n * 37) % (DATA_MAX - 100);
}

static UNUSED int put_sized(struct bed *b, uint64_t n, size_t len) {
    unsigned char *data = malloc(len + 1);
    struct spool_entry e = {.seq = n, .time_ms = 1000 + (int64_t)n, .records = 3, .raw_bytes = 9};
    struct buf index;
    uint64_t number;
    int rc;

    assert_int_equal(spool_boot_parse(e.boot, TEST_BOOT), 0);
    buf_init(&index, 4096);
    spool_index_add(&index, n % 2 == 0 ? "7:even" : "7:odd", n * 10, 2);
    e.index = index.data;
    e.index_len = index.len;
    e.data = data;
    e.len = make_data(data, n, len);
    rc = spool_append(b->s, &e, &number);
    buf_clear(&index);
    free(data);
    return rc;
}

static UNUSED void put(struct bed *b, uint64_t n) {
    assert_int_equal(put_sized(b, n, length_of(n)), 0);
}

/* Reads what there is; every record must be one that was put, in order. seen[n]: it came. */
static UNUSED unsigned drain_from(struct bed *b, struct spool_cursor *c, bool *seen, unsigned most,
                                  size_t fixed) {
    unsigned char *want = malloc(2 * MIB);
    struct spool_found f;
    unsigned got = 0;
    uint64_t before = 0;
    int rc;

    while (got < most && (rc = spool_read(b->s, c, &f)) == 1) {
        size_t len = fixed != 0 ? fixed : length_of(f.head.seq);
        char boot[33];

        assert_true(f.head.number > before);
        before = f.head.number;
        assert_int_equal(f.head.data_bytes, len);
        (void)make_data(want, f.head.seq, len);
        assert_memory_equal(f.body + f.head.index_bytes, want, len);
        assert_int_equal(f.head.time_ms, 1000 + (int64_t)f.head.seq);
        spool_boot_format(boot, f.head.boot);
        assert_string_equal(boot, TEST_BOOT);
        mem_free(f.body);
        if (seen != NULL) {
            assert_false(seen[f.head.seq]);
            seen[f.head.seq] = true;
        }
        got++;
    }
    free(want);
    return got;
}

static UNUSED unsigned drain(struct bed *b, bool *seen) {
    struct spool_cursor c;
    unsigned got;

    spool_cursor_init(&c, spool_position(b->s, b->place));
    got = drain_from(b, &c, seen, UINT32_MAX, 0);
    assert_true(spool_step(b->s, b->place, c.next) == 0);
    spool_cursor_clear(&c);
    return got;
}

static UNUSED unsigned count_files(const char *path, const char *what) {
    char out[32];

    (void)shell(out, sizeof(out), "ls %s/%s 2>/dev/null | wc -l", path, what);
    return (unsigned)strtoul(out, NULL, 10);
}

#endif
