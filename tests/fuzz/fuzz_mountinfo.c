/* fuzz_mountinfo.c - any bytes as /proc/<pid>/cgroup and, behind a line of "--", /proc/<pid>/mountinfo.
 *
 * Whatever they say, nothing outside of the root that was given is opened. */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/mem.h"
#include "collectors/cgroup/path.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_all(int root, const char *groups, const char *mounts) {
    for (int c = 0; c < PATH_CONTROLLERS; c++) {
        unsigned up = 0;
        int fd = -1, rc = path_open(root, groups, mounts, (enum path_controller)c, &fd, &up);

        if (rc == 0 && (fd < 0 || up > PATH_LEVELS))
            __builtin_trap();
        if (rc != 0 && fd != -1)
            __builtin_trap();
        if (rc == 0 && !path_has(groups, (enum path_controller)c))
            __builtin_trap();
        if (fd >= 0) {
            struct stat opened, own;

            if (fstat(fd, &opened) != 0 || fstat(root, &own) != 0 || opened.st_ino != own.st_ino)
                __builtin_trap();
            close(fd);
        }
    }
}

/* An empty folder that has no name any more: all that can be opened in it is itself, and what lies above it. */
static int empty_folder(void) {
    char name[] = "/tmp/pillion-fuzz-XXXXXX";
    int fd;

    if (mkdtemp(name) == NULL)
        return -1;
    fd = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    (void)rmdir(name);
    return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static int root = -1;
    char *text = mem_strndup((const char *)data, size), *cut, *groups, *mounts;

    if (root < 0)
        root = empty_folder();
    if (text == NULL || root < 0) {
        mem_free(text);
        return 0;
    }
    cut = strstr(text, "\n--\n");
    if (cut != NULL) { /* two blocks of exact size */
        groups = mem_strndup(text, (size_t)(cut + 1 - text));
        mounts = mem_strdup(cut + 4);
        if (groups != NULL && mounts != NULL)
            try_all(root, groups, mounts);
        mem_free(groups);
        mem_free(mounts);
    }
    mem_free(text);
    return 0;
}
