#include "batches.h"

static void add(struct batch_writer *w, const char *s) {
    assert_int_equal(batch_writer_add(w, s, strlen(s)), 0);
}

static void test_text(void **state) {
    struct batch_writer *w;
    struct batch *b;
    size_t len;
    char *text;
    (void)state;

    assert_int_equal(batch_writer_new(&w, "a\"b", "h\n1", TEST_BOOT), 0);
    assert_int_equal(batch_writer_begin(w, 7), 0);
    add(w, "{\"kind\":\"event\"}");
    add(w, "{}");
    assert_int_equal(batch_writer_records(w), 2);
    assert_int_equal(batch_writer_raw_bytes(w), 20);
    assert_int_equal(batch_writer_finish(w, &b), 0);
    text = unpack(b->data, b->len, &len);
    assert_non_null(text);
    assert_string_equal(
        text, "{\"pillion\":1,\"app\":\"a\\\"b\",\"instance\":\"h\\n1\",\"boot\":\"" TEST_BOOT
              "\",\"seq\":7,\"records\":2}\n{\"kind\":\"event\"}\n{}\n");
    assert_int_equal(b->raw_bytes, len);
    assert_int_equal(b->records, 2);
    assert_int_equal(batch_member_bytes(b->data, b->len), b->len);
    free(text);
    batch_unref(b);
    batch_writer_free(w);
    assert_int_equal(mem_live(), 0);
}

static void test_longest_numbers(void **state) {
    struct batch *b = make_batch(UINT64_MAX, 3, false);
    char *text = unpack(b->data, b->len, NULL);
    (void)state;

    assert_non_null(text);
    assert_non_null(strstr(text, "\"seq\":18446744073709551615,\"records\":3}\n"));
    free(text);
    batch_unref(b);
    assert_int_equal(mem_live(), 0);
}

static void test_other_readers(void **state) {
    char dir[64], path[128], out[4096];
    FILE *f;
    (void)state;

    scratch_make(dir);
    (void)snprintf(path, sizeof(path), "%s/x.gz", dir);
    f = fopen(path, "w");
    for (unsigned i = 1; i <= 5; i++) {
        struct batch *b = make_batch(i, 10, i == 3);

        assert_int_equal(fwrite(b->data, 1, b->len, f), b->len);
        batch_unref(b);
    }
    (void)fclose(f);
    assert_int_equal(shell(out, sizeof(out), "gzip -t %s 2>&1", path), 0);
    assert_string_equal(out, "");
    assert_int_equal(shell(out, sizeof(out), "zcat %s | grep -c '\"pillion\":1'", path), 0);
    assert_string_equal(out, "5\n");
    assert_int_equal(shell(out, sizeof(out), "zcat %s | wc -l", path), 0);
    assert_string_equal(out, "55\n");
    if (shell(out, sizeof(out), "command -v node") == 0) {
        assert_int_equal(
            shell(
                out, sizeof(out),
                "node -e 'process.stdout.write(String(require(\"zlib\").gunzipSync(require(\"fs\")"
                ".readFileSync(\"%s\")).toString().split(\"\\n\").length))'",
                path),
            0);
        assert_string_equal(out, "56");
    } else {
        print_message("skipped in part: no node here\n");
    }
    scratch_remove(dir);
    assert_int_equal(mem_live(), 0);
}

/* What does not compress, and records of every size: the room that add() makes always suffices. */
static void test_sizes(void **state) {
    static char noise[LIMIT_RECORD_BYTES + 1];
    struct batch_writer *w;
    size_t raw, len;
    uint32_t x = 1;
    (void)state;

    for (size_t i = 0; i < sizeof(noise); i++) {
        x = x * 1664525u + 1013904223u;
        noise[i] = (char)(x >> 24);
        if (noise[i] == '\n')
            noise[i] = ' ';
    }
    assert_int_equal(batch_writer_new(&w, "app", "i", TEST_BOOT), 0);
    for (uint64_t seq = 1; seq <= 60; seq++) {
        struct batch *b;
        char *text;

        assert_int_equal(batch_writer_begin(w, seq), 0);
        raw = 0;
        for (unsigned i = 0; i < 40; i++) {
            size_t n = (seq * seq * 7 + i * 1237) % 20000;

            if (i == 20 && seq % 20 == 0)
                n = LIMIT_RECORD_BYTES;
            assert_int_equal(batch_writer_add(w, noise + (i % 5), n - (n > 5 ? 5 : 0)), 0);
            raw += n - (n > 5 ? 5 : 0) + 1;
        }
        assert_int_equal(batch_writer_raw_bytes(w), raw);
        assert_int_equal(batch_writer_finish(w, &b), 0);
        text = unpack(b->data, b->len, &len);
        assert_non_null(text);
        assert_int_equal(len, b->raw_bytes);
        assert_int_equal(batch_member_bytes(b->data, b->len), b->len);
        free(text);
        batch_unref(b);
    }
    assert_int_equal(batch_writer_begin(w, 61), 0);
    assert_int_equal(batch_writer_add(w, noise, LIMIT_RECORD_BYTES + 1), -EMSGSIZE);
    batch_writer_free(w);
    assert_int_equal(mem_live(), 0);
}

static void test_long_names(void **state) {
    struct batch_writer *w;
    static char name[60001];
    struct batch *b;
    char *text;
    (void)state;

    memset(name, 'n', sizeof(name) - 1);
    assert_int_equal(batch_writer_new(&w, name, "i", TEST_BOOT), -E2BIG);
    name[59850] = '\0';
    assert_int_equal(batch_writer_new(&w, name, "i", TEST_BOOT), 0);
    assert_int_equal(batch_writer_begin(w, 1), 0);
    add(w, "{}");
    assert_int_equal(batch_writer_finish(w, &b), 0);
    text = unpack(b->data, b->len, NULL);
    assert_non_null(text);
    free(text);
    batch_unref(b);
    batch_writer_free(w);
    assert_int_equal(mem_live(), 0);
}

static void test_member_bytes(void **state) {
    struct batch *b = make_batch(1, 1, false);
    char copy[BATCH_HEAD_BYTES];
    (void)state;

    for (size_t n = 0; n < BATCH_HEAD_BYTES; n++)
        assert_int_equal(batch_member_bytes(b->data, n), -EAGAIN);
    for (size_t i = 0; i < 16; i++) {
        memcpy(copy, b->data, sizeof(copy));
        copy[i] ^= 1;
        assert_int_equal(batch_member_bytes(copy, sizeof(copy)), -EBADMSG);
    }
    memcpy(copy, b->data, sizeof(copy));
    memset(copy + 16, 0, 4);
    assert_int_equal(batch_member_bytes(copy, sizeof(copy)), -EBADMSG);
    batch_unref(b);
    assert_int_equal(mem_live(), 0);
}

/* A record that found no memory is left out; those before and after it are not hurt. */
static void test_no_memory(void **state) {
    static char record[8192];
    struct batch_writer *w;
    struct batch *b;
    unsigned refused = 0, taken = 0, lines = 0;
    char *text;
    (void)state;

    for (long n = 1;; n++) {
        mem_fail_only(n);
        if (batch_writer_new(&w, "app", "i", TEST_BOOT) == 0)
            break;
        mem_fail_only(0);
        assert_int_equal(mem_live(), 0);
    }
    mem_fail_only(1);
    assert_int_equal(batch_writer_begin(w, 1), -ENOMEM);
    assert_int_equal(batch_writer_begin(w, 1), 0);
    for (unsigned i = 0; i < 400; i++) {
        size_t len = make_record(record, i * 7919);
        int rc;

        mem_fail_from(1);
        rc = batch_writer_add(w, record, len);
        mem_fail_from(0);
        if (rc == -ENOMEM) {
            refused++;
            assert_int_equal(batch_writer_add(w, record, len), 0);
        }
        taken++;
    }
    assert_true(refused > 0);
    mem_fail_from(1); /* ending needs none */
    assert_int_equal(batch_writer_finish(w, &b), 0);
    mem_fail_from(0);
    text = unpack(b->data, b->len, NULL);
    assert_non_null(text);
    for (char *p = text; (p = strchr(p, '\n')) != NULL; p++)
        lines++;
    assert_int_equal(lines, taken + 1);
    free(text);
    batch_unref(b);
    batch_writer_free(w);
    assert_int_equal(mem_live(), 0);
}

static void test_left_open(void **state) {
    struct batch_writer *w;
    (void)state;

    assert_int_equal(batch_writer_new(&w, "app", "i", TEST_BOOT), 0);
    assert_int_equal(batch_writer_begin(w, 1), 0);
    assert_int_equal(batch_writer_begin(w, 2), 0);
    add(w, "{}");
    batch_writer_free(w);
    batch_writer_free(NULL);
    batch_unref(NULL);
    assert_int_equal(mem_live(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),          cmocka_unit_test(test_longest_numbers),
        cmocka_unit_test(test_other_readers), cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_long_names),    cmocka_unit_test(test_member_bytes),
        cmocka_unit_test(test_no_memory),     cmocka_unit_test(test_left_open),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
