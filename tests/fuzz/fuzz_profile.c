/* Profiles: whatever is read, each format can be written of it, and a byte more at the end of a whole one is told. The first byte
 * chooses the format, and whether the profile is compared with itself. */
#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent/base/mem.h"
#include "collectors/flamegraph/flamegraph.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int file_of(const uint8_t *data, size_t size) {
    int fd = memfd_create("profile", MFD_CLOEXEC);

    assert(fd >= 0);
    if (size > 0)
        assert(write(fd, data, size) == (ssize_t)size);
    assert(lseek(fd, 0, SEEK_SET) == 0);
    return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct flamegraph_options options = {.base_fd = -1};
    char why[256];
    int in, out, rc;

    if (size == 0)
        return 0;
    options.format = (enum flamegraph_format)(data[0] % FLAMEGRAPH_FORMATS);
    options.show_idle = (data[0] & 0x40) != 0;
    if ((data[0] & 0x80) != 0)
        options.base_fd = file_of(data + 1, size - 1);
    in = file_of(data + 1, size - 1);
    out = memfd_create("out", MFD_CLOEXEC);
    rc = flamegraph_make(in, out, &options, why);
    assert(rc == 0 || rc == -EINVAL || rc == -EFBIG);
    assert((rc == 0) == (why[0] == '\0'));
    assert(rc == 0 || lseek(out, 0, SEEK_END) == 0);
    close(in);
    close(out);
    if (options.base_fd >= 0)
        close(options.base_fd);
    assert(mem_live() == 0);
    return 0;
}
