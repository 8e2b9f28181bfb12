/* What people read: numbers, cells, the table of workers, the frame of top. */
#include "agent/cli/top_view.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/base/mem.h"
#include "agent/human.h"

#define FRAME_BYTES (1 << 20)
#define ROWS        60

static void expect(void (*format)(double, char *), double v, const char *text) {
    char out[HUMAN_BYTES];

    format(v, out);
    assert_string_equal(out, text);
    assert_true(strlen(out) <= 6);
}

static void test_numbers(void **state) {
    (void)state;
    expect(human_bytes, NAN, "-");
    expect(human_bytes, -1, "-");
    expect(human_bytes, 0, "0B");
    expect(human_bytes, 999, "999B");
    expect(human_bytes, 1023, "1.0K");
    expect(human_bytes, 45.1 * 1048576, "45.1M");
    expect(human_bytes, 512.0 * 1048576, "512M");
    expect(human_bytes, 1023.0 * 1048576, "1.0G");
    expect(human_bytes, 1e300, "99999P");
    expect(human_percent, NAN, "-");
    expect(human_percent, 0, "0.0");
    expect(human_percent, 0.0734, "7.3");
    expect(human_percent, 0.0996, "10");
    expect(human_percent, 1.04, "104");
    expect(human_seconds, NAN, "-");
    expect(human_seconds, 0, "0s");
    expect(human_seconds, 0.00085, "850us");
    expect(human_seconds, 0.0012, "1.2ms");
    expect(human_seconds, 0.34, "340ms");
    expect(human_seconds, 4.1, "4.1s");
    expect(human_seconds, 99, "99s");
    expect(human_seconds, 120, "2m");
    expect(human_seconds, 7200, "2h");
    expect(human_seconds, 86400 * 5, "5d");
    expect(human_number, 17, "17");
    expect(human_number, 1800, "1.8k");
    expect(human_number, 4200000, "4.2M");
}

static void cell(const char *s, size_t width, bool pad, bool utf8, const char *expected) {
    struct buf b;

    buf_init(&b, 4096);
    human_cell(&b, s, width, pad, utf8);
    assert_string_equal(b.data != NULL ? b.data : "", expected);
    buf_clear(&b);
}

static void test_cells(void **state) {
    (void)state;
    cell("abc", 5, true, true, "abc  ");
    cell("abc", 5, false, true, "abc");
    cell("abcdef", 4, true, true, "abc\xe2\x80\xa6");
    cell("abcdef", 4, true, false, "abc~");
    cell("\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e", 5, true, true,
         "\xe6\x97\xa5\xe6\x9c\xac\xe2\x80\xa6");
    cell("\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e", 4, true, true, "\xe6\x97\xa5\xe2\x80\xa6 ");
    cell("\xe6\x97\xa5", 5, true, false, "??   ");
    cell("\xc3\xa4", 5, true, true, "\xc3\xa4    ");
    /* nothing in a title may command the terminal */
    cell("\033[31mred\r\n\x07", 20, false, true, "?[31mred???");
    cell("a\xc2\x9b"
         "31mb",
         20, false, true, "a?31mb"); /* C1: CSI */
    cell("a\xe2\x80\xae"
         "b",
         20, false, true, "a?b");                  /* writing direction */
    cell("cut\xe6\x97", 20, false, true, "cut??"); /* not whole */
    cell("abc", 0, true, true, "");
}

static void title(const char *s, size_t width, bool utf8, const char *expected) {
    struct buf b;

    buf_init(&b, 4096);
    human_title(&b, s, width, utf8);
    assert_string_equal(b.data != NULL ? b.data : "", expected);
    buf_clear(&b);
}

static void test_titles(void **state) {
    (void)state;
    title("node app.js", 20, true, "node app.js");
    title("node /srv/application/server.js", 17, true, "node \xe2\x80\xa6n/server.js");
    title("node /srv/application/server.js", 17, false, "node ~n/server.js");
    title("node /srv/application/server.js", 12, false, "node /srv/a~");
    title("/usr/bin/averyveryverylongprogram", 12, false, "/usr/bin/av~");
    title("n\033de /srv/application/server.js", 16, false, "n?de ~/server.js");
    title("", 5, true, "");
}

static void test_spark(void **state) {
    const double v[] = {NAN, 0, 0.13, 0.5, 1, 7};
    struct buf b;

    (void)state;
    buf_init(&b, 4096);
    human_spark(&b, v, ARRAY_LEN(v), 8, false);
    assert_string_equal(b.data, "   _.=##");
    buf_reset(&b);
    human_spark(&b, v, ARRAY_LEN(v), 3, true);
    assert_string_equal(b.data, "\xe2\x96\x85\xe2\x96\x88\xe2\x96\x88");
    buf_clear(&b);
}

static struct row make(pid_t pid, const char *state, double cpu) {
    struct row r = {.pid = pid,
                    .cpu = cpu,
                    .memory = 45e6,
                    .heap = 5e6,
                    .heap_size = 4e9,
                    .loop = 0.5,
                    .lag = 0.0123,
                    .n_history = LIMIT_HISTORY};

    (void)snprintf(r.role, sizeof(r.role), "worker");
    (void)snprintf(r.state, sizeof(r.state), "%s", state);
    (void)snprintf(r.title, sizeof(r.title), "node /srv/application/server.js --number %d",
                   (int)pid);
    for (size_t i = 0; i < LIMIT_HISTORY; i++)
        r.history[i] = (double)i / LIMIT_HISTORY;
    return r;
}

static void test_sort(void **state) {
    struct row rows[] = {make(3, "live", 0.5), make(1, "live", NAN), make(2, "live", 0.9),
                         make(4, "live", 0.5)};

    (void)state;
    rows_sort(rows, 4, ROW_CPU, false);
    assert_int_equal(rows[0].pid, 2);
    assert_int_equal(rows[1].pid, 3);
    assert_int_equal(rows[2].pid, 4);
    assert_int_equal(rows[3].pid, 1); /* not known: last … */
    rows_sort(rows, 4, ROW_CPU, true);
    assert_int_equal(rows[0].pid, 3);
    assert_int_equal(rows[2].pid, 2);
    assert_int_equal(rows[3].pid, 1); /* … in either direction */
    rows_sort(rows, 4, ROW_PID, false);
    for (int i = 0; i < 4; i++)
        assert_int_equal(rows[i].pid, i + 1);
}

/* Columns of the longest line without its escape sequences, and how many lines. */
static size_t widest(const struct buf *b, size_t *ret_lines) {
    char line[4096];
    size_t width = 0, n = 0, lines = 0;

    for (const char *p = b->data; *p != '\0'; p++) {
        if (*p == '\033') {
            p += strcspn(p, "m");
        } else if (*p == '\n') {
            line[n] = '\0';
            width = human_width(line) > width ? human_width(line) : width;
            n = 0;
            lines++;
        } else {
            line[n++] = *p;
        }
    }
    *ret_lines = lines;
    return width;
}

static json_t *status(void) {
    return json_pack("{s:s,s:s,s:f,s:{s:f,s:f},s:{s:f,s:f,s:f,s:f,s:f}}", "app",
                     "an-application-with-a-name", "instance", "web-7d4b9c5f6-xk2lp", "uptime", 4e5,
                     "helper", "memory_bytes", 4e6, "cpu", 0.003, "container",
                     "container.cpu.usage", 1.2, "pillion.container.cpu.available", 2.0,
                     "pillion.container.cpu.limit_utilization", 0.6, "container.memory.working_set",
                     3e8, "pillion.container.memory.limit", 512.0 * 1048576);
}

static void test_frame_fits_everywhere(void **state) {
    json_t *s = status();
    struct row rows[ROWS];

    (void)state;
    for (int i = 0; i < ROWS; i++)
        rows[i] = make(1000000 + i,
                       i % 9 == 5   ? "blocked"
                       : i % 9 == 7 ? "gone"
                                    : "live",
                       i / 50.0);
    for (size_t width = 20; width <= 250; width++)
        for (size_t height = 5; height < 80; height += 7) {
            struct top_view v = {.status = s, .rows = rows, .n_rows = ROWS, .height = height};
            size_t lines;
            struct buf b;

            v.style = (struct rows_style){.width = width,
                                          .utf8 = width % 2 == 0,
                                          .colour = width % 3 == 0,
                                          .mark_sorted = true};
            v.trouble = width % 5 == 0 ? "Connection refused" : NULL;
            buf_init(&b, FRAME_BYTES);
            top_view_write(&b, &v);
            assert_int_equal(b.err, 0);
            if (widest(&b, &lines) > width)
                fail_msg("%zu columns: %s", width, b.data);
            if (height > 7 && lines > height)
                fail_msg("%zu of %zu lines: %s", lines, height, b.data);
            assert_non_null(strstr(b.data, "PID"));
            buf_clear(&b);
        }
    json_decref(s);
}

static void test_frame_80_columns(void **state) {
    struct row rows[] = {make(2288, "blocked", 0.99), make(2285, "live", NAN)};
    struct top_view v = {.rows = rows, .n_rows = 2, .height = 24};
    struct buf b;
    json_t *s = status();
    size_t lines;

    (void)state;
    rows[1].memory = rows[1].heap = rows[1].loop = rows[1].lag = NAN;
    rows[1].n_history = 0;
    v.status = s;
    v.style = (struct rows_style){.width = 80};
    buf_init(&b, FRAME_BYTES);
    top_view_write(&b, &v);
    assert_true(widest(&b, &lines) <= 80);
    assert_int_equal(lines, 24);
    assert_non_null(
        strstr(b.data, "\nCPU    1.20 of 2.00 cores (60%)  throttled - in - periods\n"));
    assert_non_null(strstr(b.data, "\nMemory 286M of 512M (56%)  OOM kills -\n"));
    assert_non_null(strstr(b.data, "\nBLOCKED  2288 worker node /srv/application/server.js"));
    assert_non_null(strstr(b.data, "\n   2288 worker  BLOCKED   99 42.9M  4.8M    50  12ms "));
    assert_non_null(strstr(b.data, "\n   2285 worker  live       -     -     -     -     - "));
    assert_null(strchr(b.data, '\033'));
    assert_non_null(strstr(b.data, "q quit\n"));
    buf_clear(&b);
    json_decref(s);
}

static void test_frame_without_anything(void **state) {
    struct top_view v = {.trouble = "Connection refused"};
    struct buf b;

    (void)state;
    buf_init(&b, FRAME_BYTES);
    top_view_write(&b, &v);
    assert_int_equal(b.err, 0);
    assert_non_null(strstr(b.data, "no answer: Connection refused"));
    assert_non_null(strstr(b.data, "0 live"));
    assert_non_null(strstr(b.data, "CPU    -"));
    buf_clear(&b);
    assert_int_equal(mem_live(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_cells),
        cmocka_unit_test(test_titles),
        cmocka_unit_test(test_spark),
        cmocka_unit_test(test_sort),
        cmocka_unit_test(test_frame_80_columns),
        cmocka_unit_test(test_frame_fits_everywhere),
        cmocka_unit_test(test_frame_without_anything),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
