/* The file sink on real directories: a full disk, a read-only one, rotation, what a kill leaves
 * behind. */
#include "batches.h"

#include <sched.h>
#include <sys/file.h>
#include <sys/resource.h>

#include "uploader/sinks/dir.h"
#include "uploader/sinks/file.h"

struct bed {
    uv_loop_t loop;
    struct sink *sink;
    char dir[64];
    char path[128]; /* of the sink */
    bool done;
    enum sink_verdict verdict;
    char error[600];
};

static void on_done(void *arg, const struct sink_result *r) {
    struct bed *b = arg;

    b->verdict = r->verdict;
    (void)snprintf(b->error, sizeof(b->error), "%s", r->error != NULL ? r->error : "");
    b->done = true;
}

static int open_sink(struct bed *b, const char *boot, const char *rest, struct buf *why) {
    struct sink_env env = {.loop = &b->loop, .data_dir = b->dir, .boot = boot};
    int rc = sink_file_new(&b->sink, &env, rest, why);

    if (rc == 0) {
        b->sink->done = on_done;
        b->sink->done_arg = b;
    }
    return rc;
}

static void bed_new(struct bed *b) {
    struct buf why;

    memset(b, 0, sizeof(*b));
    assert_int_equal(uv_loop_init(&b->loop), 0);
    scratch_make(b->dir);
    (void)snprintf(b->path, sizeof(b->path), "%s/batches", b->dir);
    buf_init(&why, 1024);
    assert_int_equal(open_sink(b, TEST_BOOT, "", &why), 0);
    buf_clear(&why);
}

static void reopen(struct bed *b, const char *boot) {
    struct buf why;

    if (b->sink != NULL)
        b->sink->ops->free(b->sink);
    buf_init(&why, 1024);
    assert_int_equal(open_sink(b, boot, "", &why), 0);
    buf_clear(&why);
}

static void bed_close(struct bed *b) {
    if (b->sink != NULL)
        b->sink->ops->free(b->sink);
    assert_int_equal(uv_loop_close(&b->loop), 0);
    scratch_remove(b->path);
    scratch_remove(b->dir);
    assert_int_equal(mem_live(), 0);
}

static enum sink_verdict send_batch(struct bed *b, struct batch *batch) {
    b->done = false;
    b->sink->ops->send(b->sink, batch);
    assert_false(b->done); /* never from inside */
    assert_true(run_until(&b->loop, &b->done));
    return b->verdict;
}

static enum sink_verdict send_new(struct bed *b, uint64_t seq, unsigned records, bool noise) {
    struct batch *batch = make_batch(seq, records, noise);
    enum sink_verdict v = send_batch(b, batch);

    batch_unref(batch);
    return v;
}

static int count(const char *dir, const char *what) {
    char out[64];

    (void)shell(out, sizeof(out), "ls -A %s | grep -c -e '%s'", dir, what);
    return (int)strtol(out, NULL, 10);
}

static int count_batches(const struct bed *b) {
    char out[64];

    (void)shell(out, sizeof(out), "zcat %s/*.ndjson.gz 2>&1 | grep -c '^{\"pillion\":1,'", b->path);
    return (int)strtol(out, NULL, 10);
}

static void test_zcat(void **state) {
    struct bed b;
    char out[4096];
    struct stat st;
    (void)state;

    bed_new(&b);
    assert_int_equal(count(b.path, "pillion"), 0); /* no file before there is a batch */
    for (uint64_t seq = 1; seq <= 3; seq++)
        assert_int_equal(send_new(&b, seq, 4, false), SINK_TAKEN);
    assert_int_equal(
        count(b.path, "^pillion-2[0-9]\\{7\\}T[0-9]\\{6\\}Z-01234567-000001.ndjson.gz$"), 1);
    assert_int_equal(count(b.path, ""), 1);
    assert_int_equal(shell(out, sizeof(out), "gzip -t %s/*.gz 2>&1", b.path), 0);
    assert_int_equal(shell(out, sizeof(out), "zcat %s/*.ndjson.gz | wc -l", b.path), 0);
    assert_string_equal(out, "15\n");
    if (shell(out, sizeof(out), "command -v jq") == 0) {
        assert_int_equal(
            shell(out, sizeof(out),
                  "zcat %s/*.ndjson.gz | jq -c 'select(.pillion) | [.boot,.seq,.records]'", b.path),
            0);
        assert_string_equal(out, "[\"" TEST_BOOT "\",1,4]\n[\"" TEST_BOOT "\",2,4]\n[\"" TEST_BOOT
                                 "\",3,4]\n");
    } else {
        print_message("skipped in part: no jq here\n");
    }
    assert_int_equal(stat(b.path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    bed_close(&b);
}

static void test_bad_paths(void **state) {
    struct bed b;
    struct buf why;
    char spec[256], slashes[260];
    struct stat st;
    (void)state;

    bed_new(&b);
    b.sink->ops->free(b.sink);
    b.sink = NULL;
    buf_init(&why, 1024);
    assert_int_equal(open_sink(&b, TEST_BOOT, "relative/dir", &why), -EINVAL);
    assert_string_equal(why.data, "PILLION_SINK: \"file:relative/dir\" is not an absolute path");

    (void)snprintf(spec, sizeof(spec), "%s/link", b.dir);
    assert_int_equal(symlink(b.path, spec), 0);
    buf_reset(&why);
    assert_int_equal(open_sink(&b, TEST_BOOT, spec, &why), -EINVAL);
    assert_non_null(strstr(why.data, "symbolic link"));

    (void)snprintf(spec, sizeof(spec), "%s/file", b.dir);
    close(open(spec, O_CREAT | O_WRONLY, 0600));
    buf_reset(&why);
    assert_int_equal(open_sink(&b, TEST_BOOT, spec, &why), -EINVAL);
    assert_non_null(strstr(why.data, "not a directory"));

    (void)snprintf(spec, sizeof(spec), "%s/open", b.dir);
    assert_int_equal(mkdir(spec, 0700), 0);
    assert_int_equal(chmod(spec, 01777), 0);
    buf_reset(&why);
    assert_int_equal(open_sink(&b, TEST_BOOT, spec, &why), -EINVAL);
    assert_non_null(strstr(why.data, "can be written to by others"));
    assert_non_null(strstr(why.data, "name a directory inside it"));

    assert_int_equal(chmod(spec, 0755), 0); /* a person's directory keeps its mode */
    (void)snprintf(slashes, sizeof(slashes), "%s//", spec);
    assert_int_equal(open_sink(&b, TEST_BOOT, slashes, &why), 0);
    assert_int_equal(stat(spec, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0755);
    assert_int_equal(b.sink->name[strlen(b.sink->name) - 1], 'n');
    assert_int_equal(rmdir(spec), 0);
    buf_clear(&why);
    bed_close(&b);
}

/* Many small files of other boots and large ones of ours: caps hold, oldest go, ours last, foreign
 * ones never. */
static void test_caps(void **state) {
    struct bed b;
    char path[256], out[256];
    uint64_t before = counter_get(COUNTER_SINK_FILES_REMOVED);
    (void)state;

    bed_new(&b);
    for (unsigned i = 0; i < LIMIT_SINK_FILES + 20; i++) {
        /* The later by the clock, so that only the boot tells that ours are newer. */
        (void)snprintf(path, sizeof(path), "%s/pillion-99990101T%06uZ-aaaaaaaa-000001.ndjson.gz",
                       b.path, i);
        close(open(path, O_CREAT | O_WRONLY, 0600));
        assert_int_equal(truncate(path, 100), 0);
    }
    (void)shell(
        out, sizeof(out),
        "cd %s && touch foreign.gz pillion-x.ndjson.gz pillion-99990101T000000Z-AAAAAAAA-000001"
        ".ndjson.gz pillion-99990101T000000Z-aaaaaaaa-000001.ndjson.gz.bak && mkdir "
        "pillion-00000101T000000Z-aaaaaaaa-000001.ndjson.gz",
        b.path);
    assert_int_equal(send_new(&b, 1, 1, false), SINK_TAKEN);
    assert_int_equal(counter_get(COUNTER_SINK_FILES_REMOVED) - before, 21);
    assert_int_equal(count(b.path, "-aaaaaaaa-000001.ndjson.gz$"), LIMIT_SINK_FILES - 1 + 1);
    assert_int_equal(count(b.path, "99990101T000020Z-aaaa"), 0);
    assert_int_equal(count(b.path, "99990101T000021Z-aaaa"), 1);
    assert_int_equal(count(b.path, "^foreign.gz$"), 1);
    assert_int_equal(count(b.path, "^pillion-x.ndjson.gz$"), 1);
    assert_int_equal(count(b.path, "AAAAAAAA"), 1);
    assert_int_equal(count(b.path, "bak$"), 1);
    (void)shell(out, sizeof(out), "rmdir %s/pillion-0000*", b.path);
    bed_close(&b);
}

/* P48: ours are the newest although the clock was set back since the others were written; among
 * ours the number decides. */
static void test_P48_age_without_clock(void **state) {
    static const char *const names[] = {"pillion-20260102T000000Z-01234567-000001.ndjson.gz",
                                        "pillion-20260101T000000Z-01234567-000002.ndjson.gz",
                                        "pillion-20270101T000000Z-aaaaaaaa-000001.ndjson.gz",
                                        "pillion-20280101T000000Z-aaaaaaaa-000001.ndjson.gz"};
    static const int order[] = {2, 3, 0, 1};
    char path[256];
    struct stat st;
    struct bed b;
    int dirfd;
    (void)state;

    bed_new(&b);
    dirfd = open(b.path, O_RDONLY | O_DIRECTORY);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", b.path, names[i]);
        close(open(path, O_CREAT | O_WRONLY, 0600));
        assert_int_equal(truncate(path, LIMIT_SINK_FILE_BYTES), 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(order); i++) {
        uint64_t rest = (ARRAY_LEN(order) - 1 - i) * LIMIT_SINK_FILE_BYTES;

        assert_int_equal(sink_dir_make_room(dirfd, TEST_BOOT, LIMIT_SINK_DIR_BYTES - rest), 1);
        assert_int_equal(fstatat(dirfd, names[order[i]], &st, 0), -1);
    }
    close(dirfd);
    bed_close(&b);
}

static void test_rotation(void **state) {
    struct bed b;
    struct batch *batch;
    char out[64];
    unsigned n = 0;
    uint64_t bytes = 0;
    (void)state;

    bed_new(&b);
    batch = make_batch(1, 260, true); /* about 750 KB */
    while (bytes < LIMIT_SINK_DIR_BYTES + 3 * LIMIT_SINK_FILE_BYTES) {
        assert_int_equal(send_batch(&b, batch), SINK_TAKEN);
        bytes += batch->len;
        n++;
        (void)shell(out, sizeof(out), "cat %s/* | wc -c", b.path);
        assert_true(strtoul(out, NULL, 10) <= LIMIT_SINK_DIR_BYTES);
    }
    assert_true(count(b.path, "") <= 9);
    assert_int_equal(count(b.path, "-000001.ndjson.gz"), 0);
    (void)shell(out, sizeof(out), "find %s -size +8192k | wc -l", b.path);
    assert_string_equal(out, "0\n");
    assert_true(count_batches(&b) > (int)n / 2);
    batch_unref(batch);
    bed_close(&b);
}

/* A helper is killed in the middle of a write: the next start mends the file, and only that. */
static void test_mend(void **state) {
    struct batch *one, *two;
    size_t last = 1;
    char path[256], cut[256], foreign[256], held[256];
    struct stat st;
    struct bed b;
    int fd;
    (void)state;

    for (size_t keep = 0; keep < last; keep += keep < 40 ? 1 : 97) {
        bed_new(&b);
        one = make_batch(1, 3, false);
        two = make_batch(2, 3, false);
        last = two->len;
        (void)snprintf(cut, sizeof(cut), "%s/pillion-20260101T000000Z-bbbbbbbb-000001.ndjson.gz",
                       b.path);
        fd = open(cut, O_CREAT | O_WRONLY, 0600);
        assert_int_equal(write(fd, one->data, one->len), one->len);
        assert_int_equal(write(fd, two->data, keep), keep);
        close(fd);
        (void)snprintf(path, sizeof(path), "%s/pillion-20260101T000000Z-cccccccc-000001.ndjson.gz",
                       b.path);
        fd = open(path, O_CREAT | O_WRONLY, 0600); /* nothing whole in it */
        assert_int_equal(write(fd, two->data, keep), keep);
        close(fd);
        (void)snprintf(foreign, sizeof(foreign),
                       "%s/pillion-20260101T000000Z-dddddddd-000001.ndjson.gz", b.path);
        fd = open(foreign, O_CREAT | O_WRONLY, 0600);
        assert_int_equal(write(fd, "not gzip", 8), 8);
        close(fd);
        (void)snprintf(held, sizeof(held), "%s/pillion-20260101T000000Z-eeeeeeee-000001.ndjson.gz",
                       b.path);
        fd = open(held, O_CREAT | O_WRONLY, 0600); /* another helper writes to it right now */
        assert_int_equal(write(fd, one->data, one->len), one->len);
        assert_int_equal(write(fd, two->data, keep), keep);
        assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
        assert_int_equal(send_new(&b, 3, 1, false), SINK_TAKEN);
        assert_int_equal(stat(cut, &st), 0);
        assert_int_equal(st.st_size, one->len);
        assert_int_equal(stat(path, &st), -1);
        assert_int_equal(stat(foreign, &st), 0);
        assert_int_equal(st.st_size, 8);
        assert_int_equal(stat(held, &st), 0);
        assert_int_equal(st.st_size, one->len + keep);
        close(fd);
        batch_unref(one);
        batch_unref(two);
        bed_close(&b);
    }
}

/* Never behind what an earlier start wrote. */
static void test_new_file_each_start(void **state) {
    struct bed b;
    struct buf why;
    (void)state;

    bed_new(&b);
    assert_int_equal(send_new(&b, 1, 1, false), SINK_TAKEN);
    b.sink->ops->free(b.sink);
    buf_init(&why, 1024);
    assert_int_equal(open_sink(&b, "fedcba98" TEST_BOOT, "", &why), 0);
    assert_int_equal(send_new(&b, 1, 1, false), SINK_TAKEN);
    assert_int_equal(count(b.path, "-01234567-000001.ndjson.gz"), 1);
    assert_int_equal(count(b.path, "-fedcba98-000001.ndjson.gz"), 1);
    assert_int_equal(count_batches(&b), 2);
    buf_clear(&why);
    bed_close(&b);
}

static void test_removed_under_us(void **state) {
    struct bed b;
    char out[16];
    (void)state;

    bed_new(&b);
    assert_int_equal(send_new(&b, 1, 1, false), SINK_TAKEN);
    (void)shell(out, sizeof(out), "rm %s/*", b.path);
    assert_int_equal(send_new(&b, 2, 1, false), SINK_TAKEN);
    assert_int_equal(count_batches(&b), 1);
    scratch_remove(b.path);
    assert_int_equal(send_new(&b, 3, 1, false), SINK_TAKEN);
    assert_int_equal(count_batches(&b), 1);
    (void)shell(out, sizeof(out), "cd %s && for f in *; do : > $f; done", b.path); /* emptied */
    assert_int_equal(send_new(&b, 4, 1, false), SINK_TAKEN);
    assert_int_equal(send_new(&b, 5, 1, false), SINK_TAKEN);
    (void)shell(out, sizeof(out), "find %s -size +0 -name '*000004*' | wc -l", b.path);
    assert_string_equal(out, "1\n");
    bed_close(&b);
}

/* P22: a small file system that is full, then free again; a read-only one; both real. */
static void test_P22_full_and_read_only(void **state) {
    struct bed b;
    struct batch *batch;
    char path[256], out[256];
    struct stat st;
    struct buf why;
    int fd, n = 0;
    (void)state;

    bed_new(&b);
    if (geteuid() != 0 || mount("none", b.path, "tmpfs", 0, "size=64k,mode=700") != 0) {
        print_message("skipped: mounting a small tmpfs needs root: %s\n", strerror(errno));
        bed_close(&b);
        skip();
    }
    reopen(&b, TEST_BOOT); /* its directory is below the mount */
    batch = make_batch(1, 3, true);
    (void)snprintf(path, sizeof(path), "%s/ballast", b.path);
    fd = open(path, O_CREAT | O_WRONLY, 0600);
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(posix_fallocate(fd, 0, 16384), 0);
    while (send_batch(&b, batch) == SINK_TAKEN)
        n++;
    assert_true(n > 1);
    assert_int_equal(b.verdict, SINK_RETRY);
    assert_non_null(strstr(b.error, "cannot write to "));
    assert_non_null(strstr(b.error, "No space left on device"));
    /* What was there is whole. */
    assert_int_equal(count_batches(&b), n);
    assert_int_equal(shell(out, sizeof(out), "gzip -t %s/*.gz 2>&1", b.path), 0);
    for (int i = 0; i < 20; i++)
        assert_int_equal(send_batch(&b, batch), SINK_RETRY);
    assert_int_equal(count(b.path, "pillion"), 1);
    assert_int_equal(unlink(path), 0);
    close(fd);
    assert_int_equal(send_batch(&b, batch), SINK_TAKEN);
    assert_int_equal(count_batches(&b), n + 1);
    assert_int_equal(count(b.path, "pillion"), 1);

    assert_int_equal(shell(out, sizeof(out), "rm %s/*", b.path), 0);
    assert_int_equal(send_batch(&b, batch), SINK_TAKEN);
    b.sink->ops->free(b.sink); /* a file open for writing forbids the remount */
    b.sink = NULL;
    assert_int_equal(mount("none", b.path, "tmpfs", MS_REMOUNT | MS_RDONLY, "size=64k"), 0);
    reopen(&b, "fedcba98" TEST_BOOT); /* comes up all the same */
    assert_int_equal(send_batch(&b, batch), SINK_RETRY);
    assert_non_null(strstr(b.error, "Read-only file system"));
    b.sink->ops->free(b.sink);
    buf_init(&why, 1024);
    (void)snprintf(path, sizeof(path), "%s/not-there-yet", b.path);
    assert_int_equal(open_sink(&b, "fedcba98" TEST_BOOT, path, &why), 0);
    buf_clear(&why);
    assert_int_equal(send_batch(&b, batch), SINK_RETRY);
    assert_non_null(strstr(b.error, "Read-only file system"));
    assert_int_equal(mount("none", b.path, "tmpfs", MS_REMOUNT, "size=64k"), 0);
    assert_int_equal(send_batch(&b, batch), SINK_TAKEN);
    assert_int_equal(count(path, "-fedcba98-000001.ndjson.gz$"), 1);
    b.sink->ops->free(b.sink);
    b.sink = NULL;
    assert_int_equal(umount(b.path), 0);
    assert_int_equal(stat(b.path, &st), 0);
    batch_unref(batch);
    bed_close(&b);
}

/* A limit on the size of files (ulimit -f) is not for ever either: another file is begun. */
static void test_P22_file_size_limit(void **state) {
    struct rlimit old, small;
    struct batch *batch = make_batch(1, 3, true);
    char out[256];
    struct bed b;
    (void)state;

    (void)signal(SIGXFSZ, SIG_IGN);
    bed_new(&b);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = (struct rlimit){.rlim_cur = batch->len * 5 / 2, .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_int_equal(send_batch(&b, batch), SINK_TAKEN);
    assert_int_equal(send_batch(&b, batch), SINK_TAKEN);
    assert_int_equal(send_batch(&b, batch), SINK_RETRY);
    assert_non_null(strstr(b.error, "File too large"));
    assert_int_equal(send_batch(&b, batch), SINK_TAKEN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(shell(out, sizeof(out), "gzip -t %s/*.gz 2>&1", b.path), 0);
    assert_int_equal(count_batches(&b), 3);
    batch_unref(batch);
    bed_close(&b);
}

static void test_no_empty_file_left(void **state) {
    struct bed b;
    struct rlimit old, small;
    (void)state;

    (void)signal(SIGXFSZ, SIG_IGN);
    bed_new(&b);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = (struct rlimit){.rlim_cur = 100, .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_int_equal(send_new(&b, 1, 3, true), SINK_RETRY);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(count(b.path, ""), 0);
    bed_close(&b);
}

static void test_names(void **state) {
    char name[SINK_DIR_NAME_BYTES];
    (void)state;

    sink_dir_name(name, 1763907596123, TEST_BOOT, 42);
    assert_string_equal(name, "pillion-20251123T141956Z-01234567-000042.ndjson.gz");
    assert_true(sink_dir_is_ours(name));
    for (size_t i = 0; name[i] != '\0'; i++) {
        char c = name[i];

        name[i] = '!';
        assert_false(sink_dir_is_ours(name));
        name[i] = '\0';
        assert_false(sink_dir_is_ours(name));
        name[i] = c;
    }
    assert_false(sink_dir_is_ours("pillion-20251123T141956Z-01234567-000042.ndjson.gzz"));
    assert_false(sink_dir_is_ours("p1llion-20251123T141956Z-01234567-000042.ndjson.gz"));
}

static void test_no_memory(void **state) {
    struct sink_env env = {.data_dir = "/tmp", .boot = TEST_BOOT};
    struct sink *s = NULL;
    struct buf why;
    char dir[64];
    long n;
    (void)state;

    scratch_make(dir);
    buf_init(&why, 1024);
    for (n = 1; s == NULL && n < 50; n++) {
        int rc;

        mem_fail_only(n);
        rc = sink_file_new(&s, &env, dir, &why);
        mem_fail_only(0);
        assert_true(rc == 0 || rc == -ENOMEM);
        buf_clear(&why);
        if (rc != 0)
            assert_int_equal(mem_live(), 0);
    }
    assert_true(n > 3 && s != NULL);
    s->ops->free(s);
    scratch_remove(dir);
    assert_int_equal(mem_live(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_zcat),
        cmocka_unit_test(test_bad_paths),
        cmocka_unit_test(test_caps),
        cmocka_unit_test(test_P48_age_without_clock),
        cmocka_unit_test(test_rotation),
        cmocka_unit_test(test_mend),
        cmocka_unit_test(test_new_file_each_start),
        cmocka_unit_test(test_removed_under_us),
        cmocka_unit_test(test_P22_full_and_read_only),
        cmocka_unit_test(test_P22_file_size_limit),
        cmocka_unit_test(test_no_empty_file_left),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_no_memory),
    };

    /* What a failed test leaves mounted goes with this process. Without the right to it nothing is
     * mounted. */
    if (unshare(CLONE_NEWNS) == 0)
        (void)mount("none", "/", "none", MS_REC | MS_PRIVATE, "");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
