/* Small files and private directories, in a directory of this test's own. */
#include "agent/base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "agent/base/mem.h"

static char root[64];
static int rootfd;
static char why[512];

static int make_root(void **state) {
    (void)state;
    (void)snprintf(root, sizeof(root), "/tmp/pillion-test-fs-XXXXXX");
    if (mkdtemp(root) == NULL)
        return -1;
    rootfd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    why[0] = '\0';
    return rootfd >= 0 ? 0 : -1;
}

/* Everything that the tests put there, whichever of it is there. */
static int remove_root(void **state) {
    static const char *const files[] = {"file",   "link", "other/file",
                                        "p/file", "fifo", "target/file"};
    static const char *const dirs[] = {"a/b/c", "a/b", "a", "p", "other", "target", "file", "link"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        (void)unlinkat(rootfd, files[i], 0);
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
        (void)unlinkat(rootfd, dirs[i], AT_REMOVEDIR);
    close(rootfd);
    assert_int_equal(rmdir(root), 0);
    assert_int_equal(mem_live(), 0);
    return 0;
}

static const char *in_root(const char *name) {
    static char path[256];

    (void)snprintf(path, sizeof(path), "%s/%s", root, name);
    return path;
}

static mode_t mode_of(const char *name) {
    struct stat st;

    assert_int_equal(fstatat(rootfd, name, &st, AT_SYMLINK_NOFOLLOW), 0);
    return st.st_mode & 07777;
}

static void test_read(void **state) {
    char out[8];

    (void)state;
    assert_int_equal(fs_write_at(rootfd, "file", "0123456789", 10, 0600), 0);
    assert_int_equal(fs_read_at(rootfd, "file", out, sizeof(out)), 7);
    assert_string_equal(out, "0123456");
    assert_int_equal(fs_read_at(rootfd, "nothing", out, sizeof(out)), -ENOENT);
    assert_int_equal(symlinkat("file", rootfd, "link"), 0);
    assert_int_equal(fs_read_at(rootfd, "link", out, sizeof(out)), -ELOOP);
    assert_int_equal(fs_read_at(AT_FDCWD, root, out, sizeof(out)), -EISDIR);
    assert_int_equal(mkfifoat(rootfd, "fifo", 0600), 0);
    assert_int_equal(fs_read_at(rootfd, "fifo", out, sizeof(out)), 0); /* and does not wait */
}

/* A file of /proc comes a page at a time. */
static void test_read_proc(void **state) {
    char *out = mem_alloc(262144);
    ssize_t n = fs_read_at(AT_FDCWD, "/proc/self/smaps", out, 262144);

    (void)state;
    assert_true(n > 5000);
    assert_int_equal(strlen(out), n);
    mem_free(out);
}

static void test_write(void **state) {
    mode_t old = umask(0777);
    char out[64];
    struct stat before, after;

    (void)state;
    assert_int_equal(fs_write_at(rootfd, "file", "one", 3, 0644), 0);
    assert_int_equal(mode_of("file"), 0644);
    assert_int_equal(fstatat(rootfd, "file", &before, 0), 0);
    assert_int_equal(fs_write_at(rootfd, "file", "two", 3, 0600), 0);
    umask(old);
    assert_int_equal(fs_read_at(rootfd, "file", out, sizeof(out)), 3);
    assert_string_equal(out, "two");
    assert_int_equal(fstatat(rootfd, "file", &after, 0), 0);
    assert_true(before.st_ino != after.st_ino); /* renamed over, never written into */
    assert_int_equal(mode_of("file"), 0600);
}

/* P63: a link that stands at the name is replaced, what it points to is left alone. */
static void test_write_through_link(void **state) {
    char out[64];
    int other;

    (void)state;
    assert_int_equal(mkdirat(rootfd, "other", 0700), 0);
    other = openat(rootfd, "other", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(fs_write_at(other, "file", "theirs", 6, 0600), 0);
    close(other);
    assert_int_equal(symlinkat("other/file", rootfd, "link"), 0);
    assert_int_equal(linkat(rootfd, "other/file", rootfd, "file", 0), 0);
    assert_int_equal(fs_write_at(rootfd, "link", "ours", 4, 0600), 0);
    assert_int_equal(fs_write_at(rootfd, "file", "ours", 4, 0600), 0);
    assert_int_equal(fs_read_at(rootfd, "other/file", out, sizeof(out)), 6);
    assert_string_equal(out, "theirs");
    assert_int_equal(fs_read_at(rootfd, "link", out, sizeof(out)), 4);
}

static void test_write_fails_whole(void **state) {
    char name[300];

    (void)state;
    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    assert_int_equal(fs_write_at(rootfd, name, "x", 1, 0600), -ENAMETOOLONG);
    assert_int_equal(mkdirat(rootfd, "file", 0700), 0);
    assert_int_equal(fs_write_at(rootfd, "file", "x", 1, 0600), -EISDIR);
    assert_int_equal(unlinkat(rootfd, "file", AT_REMOVEDIR), 0);
    /* remove_root() sees that no temporary file has stayed */
}

static void test_write_all(void **state) {
    int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);

    (void)state;
    assert_int_equal(fs_write_all(fd, "x", 1), -ENOSPC);
    assert_int_equal(fs_write_all(fd, "", 0), 0);
    close(fd);
    assert_int_equal(fs_write_all(fd, "x", 1), -EBADF);
}

static void expect_dir(const char *path, mode_t mode) {
    int fd = fs_private_dir(path, mode, why, sizeof(why));
    struct stat st;

    if (fd < 0)
        fail_msg("%s: %d %s", path, fd, why);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_mode & 07777, mode);
    assert_true((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    close(fd);
}

static void expect_refused(const char *path, int rc, const char *says) {
    assert_int_equal(fs_private_dir(path, 0700, why, sizeof(why)), rc);
    if (strstr(why, says) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", why, says);
}

static void test_dir_made(void **state) {
    mode_t old = umask(0077);

    (void)state;
    expect_dir(in_root("a/b/c"), 0711);
    umask(old);
    assert_int_equal(mode_of("a/b/c"), 0711);
    expect_dir(in_root("a/b/c//"), 0711);
    expect_dir(in_root("p/"), 0700);
}

static void test_dir_closed_to_others(void **state) {
    (void)state;
    assert_int_equal(mkdirat(rootfd, "p", 0755), 0);
    assert_int_equal(fchmodat(rootfd, "p", 0755, 0), 0);
    expect_dir(in_root("p"), 0700);
}

/* Somebody's directory, named by mistake, is not closed to those who use it. */
static void test_dir_in_use(void **state) {
    (void)state;
    assert_int_equal(mkdirat(rootfd, "p", 0700), 0);
    assert_int_equal(fchmodat(rootfd, "p", 0755, 0), 0);
    assert_int_equal(mknodat(rootfd, "p/file", S_IFREG | 0600, 0), 0);
    expect_refused(in_root("p"), -ENOTEMPTY, "not empty");
    assert_int_equal(mode_of("p"), 0755);
    assert_int_equal(fchmodat(rootfd, "p", 0700, 0), 0);
    expect_dir(in_root("p"), 0711);
    expect_dir(in_root("p"), 0711);
}

/* P63: symlink, file or open directory where ours should be. */
static void test_dir_refused(void **state) {
    (void)state;
    assert_int_equal(mkdirat(rootfd, "target", 0700), 0);
    assert_int_equal(symlinkat("target", rootfd, "link"), 0);
    expect_refused(in_root("link"), -ELOOP, "symbolic link");
    expect_refused(in_root("link/"), -ELOOP, "symbolic link");
    expect_refused(in_root("link///"), -ELOOP, "symbolic link");
    assert_int_equal(mknodat(rootfd, "file", S_IFREG | 0600, 0), 0);
    expect_refused(in_root("file"), -ENOTDIR, "not a directory");
    expect_refused(in_root("file/x"), -ENOTDIR, "Not a directory");
    assert_int_equal(mkdirat(rootfd, "p", 0700), 0);
    assert_int_equal(fchmodat(rootfd, "p", 01777, 0), 0);
    expect_refused(in_root("p"), -EPERM, "written to by others");
    assert_int_equal(mode_of("p"), 01777);
    expect_refused("/proc/nothing", -ENOENT, "cannot make /proc/nothing");
}

/* P63: a directory of another user. As root we make one; else the root of the file system is one. */
static void test_dir_foreign(void **state) {
    (void)state;
    if (geteuid() == 0) {
        assert_int_equal(mkdirat(rootfd, "p", 0700), 0);
        assert_int_equal(fchownat(rootfd, "p", 65534, 65534, 0), 0);
        expect_refused(in_root("p"), -EPERM, "belongs to uid 65534");
    } else {
        expect_refused("/", -EPERM, "belongs to uid 0");
    }
}

static void test_dir_name_too_long(void **state) {
    char path[5000];

    (void)state;
    memset(path, '/', sizeof(path) - 1);
    memset(path + 1, 'x', 4500);
    path[sizeof(path) - 1] = '\0';
    assert_int_equal(fs_private_dir(path, 0700, why, sizeof(why)), -ENAMETOOLONG);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_read, make_root, remove_root),
        cmocka_unit_test_setup_teardown(test_read_proc, make_root, remove_root),
        cmocka_unit_test_setup_teardown(test_write, make_root, remove_root),
        cmocka_unit_test_setup_teardown(test_write_through_link, make_root, remove_root),
        cmocka_unit_test_setup_teardown(test_write_fails_whole, make_root, remove_root),
        cmocka_unit_test_setup_teardown(test_write_all, make_root, remove_root),
        cmocka_unit_test_setup_teardown(test_dir_made, make_root, remove_root),
        cmocka_unit_test_setup_teardown(test_dir_closed_to_others, make_root, remove_root),
        cmocka_unit_test_setup_teardown(test_dir_in_use, make_root, remove_root),
        cmocka_unit_test_setup_teardown(test_dir_refused, make_root, remove_root),
        cmocka_unit_test_setup_teardown(test_dir_foreign, make_root, remove_root),
        cmocka_unit_test_setup_teardown(test_dir_name_too_long, make_root, remove_root),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
