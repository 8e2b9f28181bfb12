/* The spool by itself: what comes back is what was put. */
#include "spool_bed.h"

#include <sys/resource.h>

static void test_crc(void **state) {
    unsigned char zeros[32] = {0};
    struct spool_head h = {.version = 1, .needs = 1, .number = 1};
    unsigned char raw[SPOOL_HEAD_BYTES];
    (void)state;

    /* RFC 3720, B.4 */
    assert_int_equal(spool_body_crc(zeros, 32, NULL, 0), 0x8a9136aa);
    memset(zeros, 0xff, 32);
    assert_int_equal(spool_body_crc(zeros, 32, NULL, 0), 0x62a8ab43);
    for (unsigned i = 0; i < 32; i++)
        zeros[i] = (unsigned char)i;
    assert_int_equal(spool_body_crc(zeros, 5, zeros + 5, 27), 0x46dd794e);
    spool_head_put(&h, raw);
    for (unsigned i = 0; i < 8 * SPOOL_HEAD_BYTES; i++) {
        struct spool_head again;

        raw[i / 8] ^= (unsigned char)(1u << i % 8);
        assert_int_equal(spool_head_get(&again, raw), -EBADMSG);
        raw[i / 8] ^= (unsigned char)(1u << i % 8);
    }
}

static void test_round_trip(void **state) {
    struct bed b;
    struct spool_cursor c;
    (void)state;

    bed_new(&b, BIG);
    spool_cursor_init(&c, 1);
    assert_int_equal(drain_from(&b, &c, NULL, 9, 0), 0);
    for (uint64_t n = 1; n <= 20; n++) {
        put(&b, n);
        assert_int_equal(drain_from(&b, &c, NULL, 9, 0), 1); /* while it is written to */
    }
    spool_cursor_clear(&c);
    bed_again(&b, BIG);
    assert_int_equal(spool_last_sample(b.s, "7:even"), 200);
    assert_int_equal(spool_last_sample(b.s, "7:odd"), 190);
    assert_int_equal(spool_last_sample(b.s, "7:nobody"), 0);
    assert_int_equal(drain(&b, NULL), 20);
    put(&b, 21);
    assert_int_equal(drain(&b, NULL), 1);
    bed_again(&b, BIG);
    assert_int_equal(drain(&b, NULL), 0); /* the position holds */
    bed_close(&b);
}

/* The newest segment knows all workers, also those whose records are gone. */
static void test_workers_survive_deletion(void **state) {
    struct bed b;
    struct spool_view v;
    (void)state;

    bed_new(&b, BIG);
    put(&b, 2);
    put(&b, 4);
    for (uint64_t n = 101; n < 141; n += 2) { /* "7:even" is not in these, over many starts */
        bed_again(&b, BIG);
        put(&b, n);
        (void)drain(&b, NULL);
        assert_int_equal(spool_trim(b.s), 0);
        spool_look(b.s, &v);
        assert_int_equal(v.segments, 1);
    }
    bed_again(&b, BIG);
    assert_int_equal(spool_last_sample(b.s, "7:even"), 40);
    assert_int_equal(spool_last_sample(b.s, "7:odd"), 1390);
    bed_close(&b);
}

static void test_two_sinks_trim(void **state) {
    struct bed b;
    struct spool_view v;
    int other;
    (void)state;

    bed_new(&b, BIG);
    spool_free(b.s);
    assert_int_equal(spool_new(&b.s, b.path, MIB), 0);
    b.place = spool_claim(b.s, SINK);
    other = spool_claim(b.s, "hub+http://a b%/\n");
    assert_int_equal(spool_open(b.s, (char[256]){0}, 256), 0);
    for (uint64_t n = 1; n <= 900; n++)
        put(&b, n);
    spool_look(b.s, &v);
    assert_true(v.segments > 2);
    assert_int_equal(drain(&b, NULL), 900);
    assert_int_equal(spool_trim(b.s), 0);
    spool_look(b.s, &v);
    assert_true(v.segments > 2); /* the other has nothing yet */
    assert_int_equal(spool_step(b.s, other, 300), 0);
    assert_int_equal(spool_trim(b.s), 0);
    spool_free(b.s);
    assert_int_equal(spool_new(&b.s, b.path, MIB), 0);
    other = spool_claim(b.s, "hub+http://a b%/\n");
    assert_int_equal(spool_open(b.s, (char[256]){0}, 256), 0);
    assert_int_equal(spool_position(b.s, other), 300);
    bed_close(&b);
}

/* P26: never more than the limit and one record, oldest first out, counted by sink and worker. */
static void test_P26_cap(void **state) {
    struct bed b;
    struct spool_cursor c;
    struct spool_view v;
    struct buf out;
    char text[64];
    unsigned got;
    (void)state;

    bed_new(&b, MIB);
    for (uint64_t n = 1; n <= 300; n++) {
        assert_int_equal(put_sized(&b, n, 20000), 0);
        if (n % 10 == 0) {
            (void)shell(text, sizeof(text), "du -sb %s | cut -f1", b.path);
            assert_true(strtoul(text, NULL, 10) <=
                        MIB + 20000 + 4096 * 2); /* the directories' own size */
        }
        spool_look(b.s, &v);
        assert_true(v.bytes <= MIB);
    }
    spool_cursor_init(&c, 1);
    got = drain_from(&b, &c, NULL, UINT32_MAX, 20000);
    spool_cursor_clear(&c);
    assert_int_equal(got + spool_dropped(b.s, b.place), 300);
    assert_true(got >= 40);
    assert_int_equal(spool_dropped_samples(b.s), 2 * (300 - got));
    buf_init(&out, 4096);
    spool_dropped_json(b.s, &out);
    (void)snprintf(text, sizeof(text), "\"7:odd\":%u", 2 * ((301 - got) / 2));
    if (strstr(out.data, text) == NULL)
        fail_msg("%s: %s", text, out.data);
    buf_clear(&out);
    /* One record beyond every limit is still kept, alone. */
    assert_int_equal(put_sized(&b, 301, 2 * MIB - 100), 0);
    spool_look(b.s, &v);
    assert_int_equal(v.segments, 1);
    bed_close(&b);
}

/* fsync said no: the same numbers, nothing lost, nothing twice. */
static void test_rewind(void **state) {
    struct bed b;
    struct spool_cursor c;
    unsigned char data[DATA_MAX];
    (void)state;

    for (uint64_t durable = 0; durable <= 4; durable++) {
        struct spool_entry e = {.records = 3};
        uint64_t number;

        bed_new(&b, BIG);
        spool_cursor_init(&c, 1);
        for (uint64_t n = 1; n <= durable; n++)
            put(&b, n);
        assert_int_equal(spool_sync(b.s), 0);
        for (uint64_t n = durable + 1; n <= 7; n++)
            put(&b, n);
        assert_int_equal(drain_from(&b, &c, NULL, (unsigned)durable + 1, 0), durable + 1);
        spool_rewind(b.s, 0);
        assert_int_equal(spool_boot_parse(e.boot, TEST_BOOT), 0);
        for (uint64_t n = durable + 1; n <= 7; n++) {
            e.number = e.seq = n;
            e.time_ms = 1000 + (int64_t)n;
            e.data = data;
            e.len = make_data(data, n, length_of(n));
            assert_int_equal(spool_append(b.s, &e, &number), 0);
            assert_int_equal(number, n);
        }
        assert_int_equal(drain_from(&b, &c, NULL, 99, 0), 7 - durable - 1);
        spool_cursor_clear(&c);
        bed_again(&b, BIG);
        assert_int_equal(drain(&b, NULL), 7);
        bed_close(&b);
    }
}

/* P22 in small: a write that fails leaves nothing of itself, and the next one is good. */
static void test_P22_write_fails(void **state) {
    struct rlimit old, small;
    struct bed b;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    (void)state;

    bed_new(&b, BIG);
    for (uint64_t n = 1; n <= 5; n++)
        put(&b, n);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    for (size_t bytes = 2000; bytes < 4000; bytes += 61) {
        small = (struct rlimit){.rlim_cur = bytes, .rlim_max = old.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        assert_int_equal(put_sized(&b, 6, 4000), -EFBIG);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    }
    put(&b, 6);
    assert_int_equal(drain(&b, NULL), 6);
    (void)signal(SIGXFSZ, handler);
    bed_close(&b);
}

static void test_lock(void **state) {
    struct bed b;
    struct spool *other;
    char why[512];
    (void)state;

    bed_new(&b, BIG);
    assert_int_equal(spool_new(&other, b.path, BIG), 0);
    assert_int_equal(spool_open(other, why, sizeof(why)), -EBUSY);
    assert_non_null(strstr(why, "another helper uses "));
    assert_false(spool_is_open(other));
    spool_free(b.s);
    assert_int_equal(spool_open(other, why, sizeof(why)), 0);
    assert_int_equal(spool_open(other, why, sizeof(why)), 0);
    b.s = other;
    bed_close(&b);
}

/* P27: files of 4 MiB that are nearly all hole, but whose heads are there, as many as a spool of 1 GiB has. */
static void test_P27_gibibyte(void **state) {
    struct bed b;
    struct spool_head h = {.version = 1, .needs = 1, .data_bytes = 64000, .seq = 1};
    unsigned char raw[SPOOL_HEAD_BYTES];
    uint64_t number = 1, start;
    long pages[2];
    FILE *f;
    (void)state;

    bed_new(&b, 2048u * (uint64_t)MIB);
    spool_free(b.s);
    for (unsigned k = 0; k < 256; k++) {
        char file[160];
        int fd;

        (void)snprintf(file, sizeof(file), "%s/%016" PRIx64 ".seg", b.path, number);
        fd = open(file, O_WRONLY | O_CREAT, 0600);
        for (unsigned r = 0; r < 65; r++) {
            h.number = number++;
            spool_head_put(&h, raw);
            assert_int_equal(pwrite(fd, raw, sizeof(raw), r * (64000 + SPOOL_HEAD_BYTES)),
                             sizeof(raw));
        }
        assert_int_equal(ftruncate(fd, 65 * (64000 + SPOOL_HEAD_BYTES)), 0);
        close(fd);
    }
    for (int i = 0; i < 2; i++) {
        f = fopen("/proc/self/statm", "r");
        assert_int_equal(fscanf(f, "%*d %ld", &pages[i]), 1);
        (void)fclose(f);
        if (i > 0)
            break;
        start = clock_mono_ms();
        bed_open(&b, 2048u * (uint64_t)MIB);
        print_message("# 1 GiB in 256 segments opened in %" PRIu64 " ms\n",
                      clock_mono_ms() - start);
    }
    assert_true((pages[1] - pages[0]) * 4 <= 1024);
    assert_int_equal(spool_position(b.s, b.place), 1);
    bed_close(&b);
}

static void test_no_memory(void **state) {
    struct bed b;
    long n;
    (void)state;

    for (n = 1; n < 300; n++) {
        char why[512];
        struct spool_cursor c;
        struct spool_found f;
        int rc, step = 0;

        make_bed_dir(&b);
        spool_cursor_init(&c, 1);
        mem_fail_only(n);
        rc = spool_new(&b.s, b.path, BIG);
        if (rc == 0 && (rc = spool_claim(b.s, SINK)) >= 0)
            rc = spool_open(b.s, why, sizeof(why));
        for (uint64_t k = 1; rc == 0 && k <= 3; k++)
            rc = put_sized(&b, k, 100);
        for (; rc == 0 && step < 3; step++) {
            rc = spool_read(b.s, &c, &f);
            if (rc == 1) {
                mem_free(f.body);
                rc = spool_step(b.s, 0, c.next);
            }
        }
        mem_fail_only(0);
        spool_cursor_clear(&c);
        assert_true(rc == 0 || rc == -ENOMEM);
        spool_free(b.s);
        remove_all(b.dir);
        assert_int_equal(mem_live(), 0);
        if (rc == 0 && n > 60)
            break;
    }
    assert_true(n < 300);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_workers_survive_deletion),
        cmocka_unit_test(test_two_sinks_trim),
        cmocka_unit_test(test_P26_cap),
        cmocka_unit_test(test_rewind),
        cmocka_unit_test(test_P22_write_fails),
        cmocka_unit_test(test_lock),
        cmocka_unit_test(test_P27_gibibyte),
        cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
