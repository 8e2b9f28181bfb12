/* The parts of a capture that are plain values: WebSocket frames, what a profile says of itself, outputs, stacks, /proc. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

#include "agent/base/mem.h"
#include "collectors/capture/job.h"
#include "collectors/capture/profile_facts.h"
#include "collectors/capture/websocket.h"

/* --- WebSocket ----------------------------------------------------------------------------------------------------------- */

static char seen[4096];

static int on_data(void *arg, const char *data, size_t len, bool last) {
    (void)arg;
    (void)snprintf(seen + strlen(seen), sizeof(seen) - strlen(seen), "%.*s%s", (int)len, data,
                   last ? "|" : "");
    return 0;
}

static int on_control(void *arg, enum websocket_opcode opcode, const char *data, size_t len) {
    (void)arg;
    (void)snprintf(seen + strlen(seen), sizeof(seen) - strlen(seen), "<%d:%.*s>", (int)opcode,
                   (int)len, data);
    return 0;
}

static int push(const char *data, size_t len, size_t piece) {
    static const struct websocket_callbacks CALLBACKS = {on_data, on_control};
    struct websocket_reader r;
    int rc = 0;

    seen[0] = '\0';
    websocket_reader_init(&r);
    for (size_t at = 0; rc == 0 && at < len; at += piece)
        rc = websocket_push(&r, data + at, len - at < piece ? len - at : piece, &CALLBACKS, NULL);
    return rc;
}

static void test_frames(void **state) {
    static const char FRAMES[] = "\x81\x05"
                                 "hello"
                                 "\x01\x02"
                                 "ab"
                                 "\x89\x02"
                                 "hi"
                                 "\x00\x00"
                                 "\x80\x01"
                                 "c"
                                 "\x81\x7e\x00\x03"
                                 "xyz"
                                 "\x81\x7f\x00\x00\x00\x00\x00\x00\x00\x01"
                                 "q"
                                 "\x81\x00"
                                 "\x88\x00";

    (void)state;
    for (size_t piece = 1; piece < sizeof(FRAMES); piece++) {
        assert_int_equal(push(FRAMES, sizeof(FRAMES) - 1, piece), 0);
        assert_string_equal(seen, "hello|ab<9:hi>c|xyz|q||<8:>");
    }
}

static void test_what_is_no_frame_of_a_server(void **state) {
    static const struct {
        const char *bytes;
        size_t len;
    } BAD[] = {
        {"\xc1\x00", 2},                                  /* an extension's bit */
        {"\x81\x80", 2},                                  /* masked */
        {"\x83\x00", 2},                                  /* an opcode that is none */
        {"\x8b\x00", 2},                                  /* a control one that is none */
        {"\x09\x00", 2},                                  /* a control frame in pieces */
        {"\x89\x7e", 2},                                  /* a long one */
        {"\x80\x00", 2},                                  /* goes on with nothing */
        {"\x01\x00\x81\x00", 4},                          /* begins anew in the middle */
        {"\x81\x7f\xff\x00\x00\x00\x00\x00\x00\x00", 10}, /* longer than any number */
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++)
        assert_int_equal(push(BAD[i].bytes, BAD[i].len, BAD[i].len), -EPROTO);
}

static void test_own_heads_and_the_key(void **state) {
    static const uint8_t MASK[4] = {1, 2, 3, 4};
    char key[WEBSOCKET_KEY_BYTES], accept[WEBSOCKET_ACCEPT_BYTES], text[] = "hello";
    uint8_t head[WEBSOCKET_HEAD_BYTES];

    (void)state;
    assert_int_equal(websocket_head(head, WEBSOCKET_TEXT, 5, MASK), 6);
    assert_memory_equal(head, "\x81\x85\x01\x02\x03\x04", 6);
    assert_int_equal(websocket_head(head, WEBSOCKET_TEXT, 126, MASK), 8);
    assert_memory_equal(head, "\x81\xfe\x00\x7e\x01\x02\x03\x04", 8);
    assert_int_equal(websocket_head(head, WEBSOCKET_PONG, 65536, MASK), 14);
    assert_memory_equal(head, "\x8a\xff\x00\x00\x00\x00\x00\x01\x00\x00", 10);
    websocket_mask(text, 5, MASK);
    assert_string_not_equal(text, "hello");
    websocket_mask(text, 5, MASK);
    assert_string_equal(text, "hello");
    /* The example of RFC 6455, section 1.3. */
    assert_int_equal(websocket_key((const uint8_t *)"the sample nonce", key, accept), 0);
    assert_string_equal(key, "dGhlIHNhbXBsZSBub25jZQ==");
    assert_string_equal(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

/* --- profiles ------------------------------------------------------------------------------------------------------------ */

static void test_facts_of_a_profile(void **state) {
    static const struct {
        const char *text;
        uint64_t samples, start, end;
    } CASES[] = {
        {"{\"nodes\":[{\"id\":1,\"callFrame\":{\"functionName\":\"samples\"}}],\"startTime\":10,"
         "\"endTime\":4321,"
         "\"samples\":[1,1,2],\"timeDeltas\":[1,2,3]}",
         3, 10, 4321},
        {"{\"samples\":[7],\"endTime\":9,\"startTime\":8}", 1, 8, 9},
        {"{\"samples\":[],\"x\":\"\\\"samples\\\":[1,2,3]\"}", 0, 0, 0},
        {"{\"\"samples\":[1,2]}", 2, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++)
        for (size_t piece = 1; piece < 70; piece++) {
            struct profile_facts f;
            size_t len = strlen(CASES[i].text);

            profile_facts_init(&f);
            for (size_t at = 0; at < len; at += piece)
                profile_facts_push(&f, CASES[i].text + at, len - at < piece ? len - at : piece);
            assert_int_equal(f.samples, CASES[i].samples);
            assert_int_equal(f.start_us, CASES[i].start);
            assert_int_equal(f.end_us, CASES[i].end);
        }
}

/* --- outputs ------------------------------------------------------------------------------------------------------------- */

static char dir[64];
static int dirfd_of_test = -1;

static int make_dir(void **state) {
    (void)state;
    (void)snprintf(dir, sizeof(dir), "/tmp/pillion-capture-XXXXXX");
    if (mkdtemp(dir) == NULL)
        return -1;
    dirfd_of_test = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return dirfd_of_test < 0;
}

static int remove_dir(void **state) {
    (void)state;
    (void)close(dirfd_of_test);
    return rmdir(dir); /* fails when anything was left */
}

static void test_a_file_is_compressed_and_hashed(void **state) {
    char why[256], text[64], path[96];
    struct output *o = NULL;
    gzFile gz;

    (void)state;
    assert_int_equal(output_file(&o, dirfd_of_test, "a.gz", OUTPUT_JSON), 0);
    assert_int_equal(output_push(o, "{\"a\":", 5), 0);
    assert_int_equal(output_push(o, "1}\n", 3), 0);
    assert_int_equal(output_end(o, why), 0);
    assert_int_equal(output_raw_bytes(o), 8);
    assert_int_equal(strlen(output_sha256(o)), 64);
    assert_true(output_file_bytes(o) > 8);
    output_keep(o);
    output_free(o);
    (void)snprintf(path, sizeof(path), "%s/a.gz", dir);
    gz = gzopen(path, "r");
    assert_non_null(gz);
    assert_int_equal(gzread(gz, text, sizeof(text)), 8);
    assert_memory_equal(text, "{\"a\":1}\n", 8);
    assert_int_equal(gzclose(gz), Z_OK);
    /* The name is taken: nobody's file is written over. */
    assert_int_equal(output_file(&o, dirfd_of_test, "a.gz", OUTPUT_JSON), -EEXIST);
    assert_int_equal(unlinkat(dirfd_of_test, "a.gz", 0), 0);
}

static void test_what_is_not_whole_does_not_stay(void **state) {
    static const char *const CUT[] = {"", "{\"a\":1", "a}", "{\"snapshot\":{}"};
    static const enum output_form FORMS[] = {OUTPUT_JSON, OUTPUT_PROFILE, OUTPUT_SNAPSHOT};
    char why[256];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CUT); i++)
        for (size_t f = 0; f < ARRAY_LEN(FORMS); f++) {
            struct output *o = NULL;

            assert_int_equal(output_file(&o, dirfd_of_test, "cut.gz", FORMS[f]), 0);
            (void)output_push(
                o, CUT[i], strlen(CUT[i])); /* a snapshot says it at once, the others at the end */
            assert_int_equal(output_end(o, why), -EBADMSG);
            assert_string_not_equal(why, "");
            output_free(o);
            assert_int_equal(faccessat(dirfd_of_test, "cut.gz", F_OK, 0), -1);
        }
}

static void test_memory_has_a_cap(void **state) {
    struct output *o = NULL;
    char why[256];
    size_t len;

    (void)state;
    assert_int_equal(output_memory(&o, 8, OUTPUT_JSON), 0);
    assert_int_equal(output_push(o, "{\"a\":1}", 7), 0);
    assert_string_equal(output_text(o, &len), "{\"a\":1}");
    assert_int_equal(output_push(o, "12", 2), -EFBIG);
    assert_int_equal(output_push(o, "", 0), -EFBIG);
    assert_int_equal(output_end(o, why), -EFBIG);
    assert_string_not_equal(why, "");
    output_free(o);
}

static void test_outputs_without_memory(void **state) {
    char why[256];
    int rc = -ENOMEM;

    (void)state;
    for (long n = 1; rc == -ENOMEM && n < 200; n++) {
        struct output *o = NULL;

        mem_fail_only(n);
        rc = output_file(&o, dirfd_of_test, "m.gz", OUTPUT_PROFILE);
        if (rc == 0)
            rc = output_push(o, "{}", 2);
        if (rc == 0)
            rc = output_end(o, why);
        mem_fail_only(0);
        output_free(o);
        assert_int_equal(mem_live(), 0);
    }
    assert_int_equal(rc, 0);
}

/* --- stacks -------------------------------------------------------------------------------------------------------------- */

static void test_stack(void **state) {
    static const char PAUSED[] = "{\"method\":\"Debugger.paused\",\"params\":{\"callFrames\":["
                                 "{\"functionName\":\"spin\",\"location\":{\"scriptId\":\"7\","
                                 "\"lineNumber\":4,\"columnNumber\":2},\"url\":\"\"},"
                                 "{\"functionName\":\"\",\"location\":{\"scriptId\":\"9\","
                                 "\"lineNumber\":0,\"columnNumber\":0},\"url\":\"x.js\"},3]}}";
    struct buf scripts, out;

    (void)state;
    buf_init(&scripts, 1000);
    buf_init(&out, 1000);
    buf_puts(&scripts, "\n6 \"no\"\n7 \"file:///a \\\"b\\\".js\"\n77 \"no\"");
    assert_int_equal(stack_write(PAUSED, strlen(PAUSED), &scripts, &out), 0);
    assert_string_equal(
        out.data,
        "{\"state\":\"blocked\",\"frames\":3,\"stack\":["
        "{\"function\":\"spin\",\"url\":\"file:///a \\\"b\\\".js\",\"line\":5,\"column\":3},"
        "{\"function\":\"\",\"url\":\"x.js\",\"line\":1,\"column\":1},"
        "{\"function\":\"\",\"url\":\"\",\"line\":1,\"column\":1}]}");
    buf_reset(&out);
    assert_int_equal(stack_write("{\"params\":{}}", 13, &scripts, &out), -EPROTO);
    assert_int_equal(stack_write("{", 1, &scripts, &out), -EPROTO);
    buf_clear(&scripts);
    buf_clear(&out);
}

/* --- /proc --------------------------------------------------------------------------------------------------------------- */

static void on_signal(int signal) {
    (void)signal;
}

static void test_own_process(void **state) {
    struct process_view p = {.proc_fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC),
                             .pid = getpid()};
    uint16_t ports[PROCESS_PORTS_MAX];
    char words[PROCESS_WORDS_BYTES];
    struct buf out;

    (void)state;
    buf_init(&out, 4096);
    assert_int_equal(process_check(&p), 0);
    p.start_ticks = 1;
    assert_int_equal(process_check(&p), -ESRCH);
    assert_int_equal(process_catches_usr1(&p), 0);
    (void)signal(SIGUSR1, on_signal);
    assert_int_equal(process_catches_usr1(&p), 1);
    (void)signal(SIGUSR1, SIG_DFL);
    assert_int_equal(process_shares_network(&p), 1);
    assert_int_equal(process_ports(&p, NULL, 0, ports), 0);
    process_native(&p, "native", &out, words);
    assert_int_equal(out.err, 0);
    assert_non_null(strstr(out.data, "{\"state\":\"native\",\"thread_state\":\"R\""));
    assert_non_null(strstr(words, "in native code ("));
    assert_string_equal(syscall_name(SYS_futex), "futex");
    assert_string_equal(syscall_name(SYS_read), "read");
    assert_null(syscall_name(99999));
    p.pid = INT32_MAX;
    assert_int_equal(process_check(&p), -ESRCH);
    assert_int_equal(process_catches_usr1(&p), -ESRCH);
    assert_true(process_shares_network(&p) < 0);
    assert_true(process_ports(&p, NULL, 0, ports) < 0);
    buf_clear(&out);
    (void)close(p.proc_fd);
}

static int no_block_is_left(void **state) {
    (void)state;
    return mem_live() != 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames),
        cmocka_unit_test(test_what_is_no_frame_of_a_server),
        cmocka_unit_test(test_own_heads_and_the_key),
        cmocka_unit_test(test_facts_of_a_profile),
        cmocka_unit_test(test_a_file_is_compressed_and_hashed),
        cmocka_unit_test(test_what_is_not_whole_does_not_stay),
        cmocka_unit_test(test_memory_has_a_cap),
        cmocka_unit_test(test_outputs_without_memory),
        cmocka_unit_test_teardown(test_stack, NULL),
        cmocka_unit_test_teardown(test_own_process, no_block_is_left),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
