/* The spool over damaged, foreign and newer files: one record is lost at most, and no file. */
#include "spool_bed.h"
#include "uploader/spool/pack.h"

/* A bed with RECORDS records in one segment, closed; *ret_len bytes of it for free(). */
static char *one_segment(struct bed *b, char file[160], size_t *ret_len) {
    bed_new(b, BIG);
    for (uint64_t n = 1; n <= RECORDS; n++)
        put(b, n);
    spool_free(b->s);
    b->s = NULL;
    (void)snprintf(file, 160, "%s/0000000000000001.seg", b->path);
    return slurp(file, ret_len);
}

static void write_file(const char *file, const char *data, size_t len) {
    int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), (ssize_t)len);
    close(fd);
}

static void fresh(struct bed *b) {
    char aside[96];

    (void)snprintf(aside, sizeof(aside), "%s/quarantine", b->path);
    scratch_remove(aside);
    scratch_remove(b->path);
    assert_int_equal(mkdir(b->path, 0700), 0);
}

/* What is there is delivered, the rest goes on, and a damaged file is still there. */
static void after_damage(struct bed *b, unsigned least, bool aside) {
    bool seen[64] = {false};
    struct spool_view v;
    unsigned got;

    bed_open(b, BIG);
    got = drain(b, seen);
    assert_true(got >= least);
    put(b, 50);
    assert_int_equal(drain(b, seen), 1);
    assert_true(seen[50]);
    assert_int_equal(spool_trim(b->s), 0);
    spool_look(b->s, &v);
    assert_int_equal(v.segments, 1);
    if (v.aside_files != (aside ? 1 : 0))
        fail_msg("%u files set aside", v.aside_files);
    spool_free(b->s);
    b->s = NULL;
}

static void test_P23_each_byte_flipped(void **state) {
    struct bed b;
    char file[160], *data;
    size_t len;
    (void)state;

    data = one_segment(&b, file, &len);
    for (size_t i = 0; i < len; i++) {
        data[i] ^= (char)(1u << (i % 8));
        fresh(&b);
        write_file(file, data, len);
        data[i] ^= (char)(1u << (i % 8));
        after_damage(&b, RECORDS - 1, true);
    }
    free(data);
    bed_close(&b);
}

/* The walk alone, over a larger segment: all bits of each byte at once. */
static void test_P23_walk_flipped(void **state) {
    struct bed b;
    char file[160], *data;
    size_t len;
    int fd;
    (void)state;

    data = one_segment(&b, file, &len);
    fd = open(file, O_RDWR);
    for (size_t i = 0; i < len; i++) {
        struct segment_walk w = {.fd = fd, .end = len};
        unsigned good = 0;
        struct spool_head h;
        char body[4096], bad = (char)~data[i];
        uint64_t at;

        assert_int_equal(pwrite(fd, &bad, 1, (off_t)i), 1);
        while (segment_next(&w, &h, &at) == 1)
            good += segment_body(fd, at, &h, body) == 0;
        assert_int_equal(good, RECORDS - 1);
        assert_int_equal(pwrite(fd, &data[i], 1, (off_t)i), 1);
    }
    close(fd);
    free(data);
    bed_close(&b);
}

static void test_P23_cut_at_each_length(void **state) {
    struct bed b;
    char file[160], *data;
    size_t len, ends[RECORDS + 1] = {0};
    uint64_t cut_before = counter_get(COUNTER_SPOOL_TAILS_CUT);
    unsigned whole = 0;
    (void)state;

    data = one_segment(&b, file, &len);
    for (unsigned i = 0; i < RECORDS; i++) {
        struct spool_head h;

        assert_int_equal(spool_head_get(&h, (unsigned char *)data + ends[i]), 0);
        ends[i + 1] = ends[i] + spool_head_total(&h);
    }
    assert_int_equal(ends[RECORDS], len);
    for (size_t cut = 0; cut <= len; cut++) {
        while (whole < RECORDS && ends[whole + 1] <= cut)
            whole++;
        fresh(&b);
        write_file(file, data, cut);
        after_damage(&b, whole, whole == 0); /* set aside only when nothing is left to cut at */
    }
    assert_int_equal(counter_get(COUNTER_SPOOL_TAILS_CUT) - cut_before,
                     len - ends[1] - RECORDS + 1);
    free(data);
    bed_close(&b);
}

/* Strangers of all kinds between good segments, at the beginning and at the end. */
static void test_P23_foreign_and_newer(void **state) {
    static const char *const names[] = {"0000000000000001.seg", "0000000000000004.seg",
                                        "0000000000000009.seg", "7ffffffffffffff0.seg"};
    char noise[5000], file[160], *data;
    struct spool_head h;
    struct bed b;
    size_t len;
    (void)state;

    for (unsigned kind = 0; kind < 4; kind++) {
        for (unsigned k = 0; k < ARRAY_LEN(names); k++) {
            bool seen[64] = {false};
            struct spool_view v;

            bed_new(&b, BIG);
            assert_int_equal(spool_step(b.s, b.place, 3), 0);
            bed_again(&b, BIG); /* so that its numbers are 3 to 7 */
            for (uint64_t n = 1; n <= RECORDS; n++)
                put(&b, n);
            spool_free(b.s);
            (void)snprintf(file, sizeof(file), "%s/positions", b.path);
            assert_int_equal(unlink(file), 0);
            (void)snprintf(file, sizeof(file), "%s/0000000000000003.seg", b.path);
            data = slurp(file, &len);
            (void)snprintf(file, sizeof(file), "%s/%s", b.path, names[k]);
            memset(noise, 'x', sizeof(noise));
            if (kind == 1) { /* a newer format: a good head that needs more than we know */
                assert_int_equal(spool_head_get(&h, (unsigned char *)data), 0);
                h.version = h.needs = SPOOL_VERSION + 1;
                spool_head_put(&h, (unsigned char *)noise);
            }
            write_file(file, noise, kind == 2 ? 0 : sizeof(noise));
            if (kind == 3) { /* no file at all */
                assert_int_equal(unlink(file), 0);
                assert_int_equal(symlink("/etc/passwd", file), 0);
            }
            bed_open(&b, BIG);
            assert_int_equal(drain(&b, seen), RECORDS);
            for (uint64_t n = 10; n < 20; n++)
                put(&b, n);
            assert_int_equal(drain(&b, seen), 10);
            assert_int_equal(spool_trim(b.s), 0);
            spool_look(b.s, &v);
            if (kind != 3)
                assert_int_equal(v.aside_files, 1);
            assert_true(v.next < 100);
            free(data);
            bed_close(&b);
        }
    }
}

/* A format that only added to the index is read by this program as well, and one of ours by every later one: the
 * fixture was written by format 1 and stays as it is. */
static void test_P32_formats(void **state) {
    static const unsigned char unknown[] = {200, 3, 0, 'a', 'b', 'c'};
    unsigned char raw[SPOOL_HEAD_BYTES], data[DATA_MAX];
    struct spool_head h = {
        .version = 9, .needs = 1, .index_bytes = sizeof(unknown), .number = 1, .seq = 7};
    struct bed b;
    char file[160], out[16];
    (void)state;

    bed_new(&b, BIG);
    spool_free(b.s);
    (void)shell(out, sizeof(out),
                "rm -f %s/*; cp tests/fixtures/spool/v1.seg %s/0000000000000001.seg", b.path,
                b.path);
    bed_open(&b, BIG);
    assert_int_equal(spool_last_sample(b.s, "7:even"), 40);
    assert_int_equal(drain(&b, NULL), RECORDS);
    spool_free(b.s);

    fresh(&b);
    h.data_bytes = (uint32_t)make_data(data, 7, length_of(7));
    h.time_ms = 1007;
    assert_int_equal(spool_boot_parse(h.boot, TEST_BOOT), 0);
    h.body_crc = spool_body_crc(unknown, sizeof(unknown), data, h.data_bytes);
    spool_head_put(&h, raw);
    (void)snprintf(file, sizeof(file), "%s/0000000000000001.seg", b.path);
    {
        int fd = open(file, O_WRONLY | O_CREAT, 0600);

        assert_int_equal(write(fd, raw, sizeof(raw)), sizeof(raw));
        assert_int_equal(write(fd, unknown, sizeof(unknown)), sizeof(unknown));
        assert_int_equal(write(fd, data, h.data_bytes), h.data_bytes);
        close(fd);
    }
    bed_open(&b, BIG);
    assert_int_equal(drain(&b, NULL), 1);
    bed_close(&b);
}

/* A segment of format 2 with a batch as it goes to the sinks and a packed one, which has to come back for ever as the
 * text that it was. */
static void test_P32_packed(void **state) {
    struct spool_cursor c;
    struct bed b;
    char out[16];
    (void)state;

    bed_new(&b, BIG);
    spool_free(b.s);
    (void)shell(out, sizeof(out),
                "rm -f %s/*; cp tests/fixtures/spool/v2.seg %s/0000000000000001.seg", b.path,
                b.path);
    bed_open(&b, BIG);
    assert_int_equal(spool_last_sample(b.s, "1:0"), 202);
    spool_cursor_init(&c, 1);
    for (unsigned i = 1; i <= 2; i++) {
        struct batch *was = make_batch(i, 3, false), *is = NULL;
        struct spool_found f;

        assert_int_equal(spool_read(b.s, &c, &f), 1);
        assert_int_equal(f.head.seq, i);
        assert_int_equal(f.head.version, 2);
        assert_int_equal(f.head.needs, i);
        assert_int_equal(f.head.form, i == 1 ? SPOOL_GZIP : SPOOL_PACKED);
        assert_int_equal(f.head.raw_bytes, was->raw_bytes);
        if (i == 2) {
            assert_int_equal(unpack_batch(&is, f.body + f.head.index_bytes, f.head.data_bytes,
                                          f.head.raw_bytes, i, 3),
                             0);
            assert_memory_equal(is->data + is->len - 8, was->data + was->len - 8, 8);
        }
        batch_unref(is);
        batch_unref(was);
        mem_free(f.body);
    }
    spool_cursor_clear(&c);
    bed_close(&b);
}

static void test_P23_positions_damaged(void **state) {
    static const char *const contents[] = {
        "",
        "pillion spool positions 1\n",
        "pillion spool positions 2\n00000000 5 x\n",
        "rubbish",
        "pillion spool positions 1\n00000000 3 file:/somewhere\n",
        "\xff\xfe\n\n\n"};
    struct bed b;
    char file[160];
    (void)state;

    for (unsigned i = 0; i < ARRAY_LEN(contents); i++) {
        bed_new(&b, BIG);
        for (uint64_t n = 1; n <= 5; n++)
            put(&b, n);
        assert_int_equal(drain(&b, NULL), 5);
        spool_free(b.s);
        (void)snprintf(file, sizeof(file), "%s/positions", b.path);
        write_file(file, contents[i], strlen(contents[i]));
        bed_open(&b, BIG);
        assert_int_equal(drain(&b, NULL), 5); /* again, under the same names */
        if (i >= 2 && i != 3)
            assert_int_equal(count_files(b.path, "quarantine"), 1);
        put(&b, 6);
        bed_again(&b, BIG);
        assert_int_equal(drain(&b, NULL), 1);
        bed_close(&b);
    }
}

/* Each bit of the position file: a sink repeats at most, and never skips. */
static void test_P23_positions_flipped(void **state) {
    struct bed b;
    char file[160], *data;
    size_t len;
    (void)state;

    bed_new(&b, BIG);
    for (uint64_t n = 1; n <= 5; n++)
        put(&b, n);
    for (uint64_t n = 2; n <= 4; n++)
        assert_int_equal(spool_step(b.s, b.place, n), 0);
    (void)snprintf(file, sizeof(file), "%s/positions", b.path);
    data = slurp(file, &len);
    for (size_t i = 0; i < 8 * len; i++) {
        data[i / 8] ^= (char)(1u << i % 8);
        write_file(file, data, len);
        data[i / 8] ^= (char)(1u << i % 8);
        bed_again(&b, BIG);
        assert_true(spool_position(b.s, b.place) <= 4);
    }
    free(data);
    bed_close(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_P23_each_byte_flipped),
        cmocka_unit_test(test_P23_walk_flipped),
        cmocka_unit_test(test_P23_cut_at_each_length),
        cmocka_unit_test(test_P23_foreign_and_newer),
        cmocka_unit_test(test_P32_formats),
        cmocka_unit_test(test_P32_packed),
        cmocka_unit_test(test_P23_positions_damaged),
        cmocka_unit_test(test_P23_positions_flipped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
