/* The list of targets, and the messages on disk: kept over restarts, never doubled, bounded. */
#include "notify_bed.h"

#include "uploader/notify/note_file.h"

#define NOWHERE "http://127.0.0.1:1/"

static void close_bed(int files) {
    (void)bed_close();
    assert_int_equal(bed_files(NULL), files);
    assert_int_equal(bed_remove(bed.dir), 0);
}

static void test_lists(void **state) {
    static const struct {
        const char *list, *why;
    } cases[] = {
        {"none, http://a/", "cannot stand beside others"},
        {"http://a/,", "an entry is empty"},
        {"http://a/,,http://b/", "an entry is empty"},
        {"mqtt://me:hidden@a", "is no target; accepted are none, or a list of amqp(s)://"},
        {"http://a/x,http://b/,http://me:hidden@a/x?k=1", "http://a/x is named twice"},
        {"http://me:hidden@a/b/../c", "no . or .. in the path"},
        {"http://me:hidden@a:x/", "the address cannot be read"},
        {"amqp://me:hidden@a", "neither exchange= nor routing_key="},
        {"http://a/1,http://a/2,http://a/3,http://a/4,http://a/5,http://a/6,http://a/7,http://a/8,"
         "http://a/9",
         "more than 8 targets"},
    };
    struct buf why;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        buf_init(&why, 4096);
        assert_int_equal(notify_list_check(cases[i].list, &why), -EINVAL);
        if (strstr(why.data, cases[i].why) == NULL || strstr(why.data, "PILLION_NOTIFY: ") == NULL)
            fail_msg("%s: %s", cases[i].list, why.data);
        assert_null(strstr(why.data, "hidden"));
        buf_clear(&why);
    }
    buf_init(&why, 4096);
    assert_int_equal(notify_list_check(NULL, &why), 0);
    assert_int_equal(notify_list_check("", &why), 0);
    assert_int_equal(notify_list_check(" none ", &why), 0);
    assert_int_equal(notify_list_check(" http://a/.well-known/x/ , amqps://b/?exchange=e", &why),
                     0);
    assert_int_equal(why.len, 0);
    assert_false(notify_list_needs_http(NULL));
    assert_false(notify_list_needs_http("amqp://a?routing_key=http://x"));
    assert_true(notify_list_needs_http("amqp://a?routing_key=q , https://b/"));
    buf_clear(&why);
    assert_int_equal(mem_live(), 0);
}

static void test_none(void **state) {
    (void)state;
    bed_make_dir();
    bed_open("none");
    bed_send("one", "{}");
    assert_int_equal(bed.kept, 0);
    BED_UNTIL(bed.kept == 1);
    bed_send("two", "{}"); /* told while it closes */
    (void)bed_close();
    assert_int_equal(bed.kept, 2);
    assert_int_equal(bed_remove(bed.dir), 0);
}

static void test_ids(void **state) {
    static const char *const bad[] = {"", ".a", "a/b", "a b", "\xc3\xa4"};
    char id[NOTE_ID_BYTES + 1];
    static char big[LIMIT_NOTIFY_BYTES + 2];
    (void)state;

    bed_make_dir();
    bed_open(NOWHERE);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(notify_send(bed.notify, bad[i], "{}", 2, NULL, NULL), -EINVAL);
    memset(id, 'i', sizeof(id));
    id[NOTE_ID_BYTES] = '\0';
    assert_int_equal(notify_send(bed.notify, id, "{}", 2, NULL, NULL), -EINVAL);
    id[NOTE_ID_BYTES - 1] = '\0';
    assert_int_equal(notify_send(bed.notify, id, "{}", 2, NULL, NULL), 0);
    memset(big, 'x', sizeof(big) - 1);
    assert_int_equal(notify_send(bed.notify, "a", big, sizeof(big) - 1, NULL, NULL), -EMSGSIZE);
    assert_int_equal(notify_send(bed.notify, "a", big, sizeof(big) - 2, NULL, NULL), 0);
    close_bed(2);
}

/* Taken is in a file at once: a kill now loses nothing. The same id again is the same message. */
static void test_kept(void **state) {
    char name[NAME_MAX + 1], path[PATH_MAX];
    int64_t time_ms;
    unsigned needed;
    char id[NOTE_ID_BYTES], *text, text_end[] = "{\"n\":1}";
    size_t len;
    int dirfd;
    (void)state;

    bed_make_dir();
    bed_open(NOWHERE ", http://127.0.0.1:1/two");
    bed_send("one", text_end);
    assert_int_equal(bed_files(name), 1);
    bed_send("one", "other");
    BED_UNTIL(bed.kept == 2);
    bed_send("one", "other");
    BED_UNTIL(bed.kept == 3);
    assert_int_equal(bed.kept_rc, 0);
    assert_true(note_file_parse_name(name, &time_ms, &needed, id));
    assert_int_equal(needed, 3);
    assert_string_equal(id, "one");
    (void)snprintf(path, sizeof(path), "%s/notify", bed.dir);
    dirfd = open(path, O_RDONLY | O_DIRECTORY);
    assert_int_equal(note_file_read(dirfd, name, &text, &len), 0);
    close(dirfd);
    assert_string_equal(strstr(text, "\n\n") + 2, text_end);
    mem_free(text);
    close_bed(1);
}

static void put_file(const char *name, const char *text) {
    char path[PATH_MAX];
    FILE *f;

    (void)snprintf(path, sizeof(path), "%s/notify", bed.dir);
    (void)mkdir(path, 0700);
    (void)snprintf(path, sizeof(path), "%s/notify/%s", bed.dir, name);
    f = fopen(path, "w");
    assert_non_null(f);
    (void)fputs(text, f);
    (void)fclose(f);
}

#define HEAD(bytes, targets) "pillion-notification 1\nbytes " #bytes "\n" targets "\n"
#define A                    "target http://127.0.0.1:1/a\n"
#define X                    "target http://x\n"

static void test_what_was_left(void **state) {
    uint64_t damaged = counter_get(COUNTER_NOTIFY_DAMAGED);
    (void)state;

    bed_make_dir();
    put_file("1700000000000-01-good.note", HEAD(2, A) "{}");
    put_file("1700000000001-03-two.note", HEAD(2, X A) "{}");
    put_file("1700000000002-01-had.note", HEAD(2, X A) "{}");
    put_file("1700000000003-01-moved.note", HEAD(2, X) "{}");
    put_file("1700000000004-00-done.note", HEAD(2, A) "{}");
    put_file("1700000000005-01-good.note", HEAD(2, A) "{}");
    put_file("1700000000006-01-cut.note", HEAD(9, A) "{}");
    put_file("1700000000007-01-empty.note", "");
    put_file("1700000000008-01-deep.note", "pillion-notification 1\nbytes 0\n\n");
    put_file(".new-1700000000009-01-half.note", HEAD(2, A) "{}");
    put_file("somebody's.txt", "stays");
    bed_open("http://127.0.0.1:1/a,http://127.0.0.1:1/b");
    assert_int_equal(notify_backlog(bed.notify), 3);
    /* good and two: the first target; moved: nobody has had it, so both. */
    assert_string_equal(bed_status(0, "backlog"), "3");
    assert_string_equal(bed_status(1, "backlog"), "1");
    assert_int_equal(counter_get(COUNTER_NOTIFY_DAMAGED), damaged + 3);
    /* A second start finds the same. */
    (void)bed_close();
    assert_int_equal(bed_files(NULL), 4);
    bed_open("http://127.0.0.1:1/a,http://127.0.0.1:1/b");
    assert_string_equal(bed_status(0, "backlog"), "3");
    assert_string_equal(bed_status(1, "backlog"), "1");
    close_bed(4);
}

/* Want of memory at the start is an error, never a message that is taken for damaged. */
static void test_memory_at_start(void **state) {
    struct buf why;
    int rc = -ENOMEM;
    (void)state;

    bed_make_dir();
    put_file("1700000000000-01-good.note", HEAD(2, A) "{}");
    put_file("1700000000003-01-moved.note", HEAD(2, X) "{}");
    bed_open("none");
    (void)bed_close();
    for (long n = 1; rc == -ENOMEM; n++) {
        assert_true(n < 100);
        bed_open("none");
        notify_close(bed.notify, bed_closed, NULL);
        BED_UNTIL(bed.closed);
        bed.closed = false;
        buf_init(&why, 4096);
        mem_fail_only(n);
        rc = bed_try("http://127.0.0.1:1/a,amqp://127.0.0.1:1/?routing_key=q", &why);
        mem_fail_only(0);
        assert_int_equal(bed_files(NULL), 2);
        if (rc == 0)
            assert_int_equal(notify_backlog(bed.notify), 2);
        else
            assert_int_equal(bed_try("none", &why), 0);
        buf_clear(&why);
        (void)bed_close();
    }
    assert_int_equal(rc, 0);
    assert_int_equal(bed_remove(bed.dir), 0);
}

static void test_bounded(void **state) {
    uint64_t dropped = counter_get(COUNTER_NOTIFY_DROPPED);
    char id[32];
    (void)state;

    bed_make_dir();
    bed_open(NOWHERE);
    for (int i = 0; i < LIMIT_NOTIFY_MESSAGES + 3; i++) {
        (void)snprintf(id, sizeof(id), "n%d", i);
        bed_send(id, "{}");
    }
    assert_int_equal(notify_backlog(bed.notify), LIMIT_NOTIFY_MESSAGES);
    assert_int_equal(counter_get(COUNTER_NOTIFY_DROPPED), dropped + 3);
    BED_UNTIL(bed.kept == LIMIT_NOTIFY_MESSAGES + 3);
    BED_UNTIL(bed_files(NULL) == LIMIT_NOTIFY_MESSAGES);
    close_bed(LIMIT_NOTIFY_MESSAGES);
}

static void test_bounded_bytes(void **state) {
    static char big[LIMIT_NOTIFY_BYTES];
    char id[32];
    (void)state;

    memset(big, 'x', sizeof(big) - 1);
    bed_make_dir();
    bed_open(NOWHERE);
    for (int i = 0; i < LIMIT_NOTIFY_QUEUE_BYTES / LIMIT_NOTIFY_BYTES + 5; i++) {
        (void)snprintf(id, sizeof(id), "n%d", i);
        bed_send(id, big);
    }
    assert_true(notify_backlog(bed.notify) < LIMIT_NOTIFY_QUEUE_BYTES / LIMIT_NOTIFY_BYTES);
    close_bed((int)notify_backlog(bed.notify));
}

/* Somebody else removes the file: that message is gone, and said; the others go on. */
static void test_taken_away(void **state) {
    uint64_t damaged = counter_get(COUNTER_NOTIFY_DAMAGED);
    char name[NAME_MAX + 1], path[PATH_MAX];
    (void)state;

    bed_make_dir();
    bed_open(NOWHERE);
    bed_send("one", "{}");
    BED_UNTIL(BED_STATE(0, "failing"));
    assert_int_equal(bed_files(name), 1);
    (void)snprintf(path, sizeof(path), "%s/notify/%s", bed.dir, name);
    assert_int_equal(unlink(path), 0);
    BED_UNTIL(notify_backlog(bed.notify) == 0);
    assert_int_equal(counter_get(COUNTER_NOTIFY_DAMAGED), damaged + 1);
    close_bed(0);
}

static void test_no_directory(void **state) {
    struct buf why;
    (void)state;

    bed_make_dir();
    bed_open("none");
    put_file("../notify-file", "");
    (void)rmdir(bed.dir);
    buf_init(&why, 1000);
    {
        struct notify_env env = {
            .loop = &bed.loop, .http = bed.http, .data_dir = "/proc/self", .app = "a"};
        struct notify *n;

        assert_true(notify_new(&n, NOWHERE, &env, &why) < 0);
        assert_non_null(strstr(why.data, "notifications cannot be kept: "));
    }
    buf_clear(&why);
    (void)bed_close();
    assert_int_equal(bed_remove(bed.dir), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_none),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_kept),
        cmocka_unit_test(test_what_was_left),
        cmocka_unit_test(test_bounded),
        cmocka_unit_test(test_memory_at_start),
        cmocka_unit_test(test_bounded_bytes),
        cmocka_unit_test(test_taken_away),
        cmocka_unit_test(test_no_directory),
    };

    return cmocka_run_group_tests_name("notify", tests, NULL, NULL);
}
