/* The walk over a file of batches that another process, or a crash, left behind: whatever is in it,
 * the walk ends, and what it calls good is a chain of whole members. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "uploader/batch.h"
#include "uploader/sinks/dir.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    int64_t good, at = 0;

    if (fd < 0 || write(fd, data, size) != (ssize_t)size) {
        if (fd >= 0)
            close(fd);
        return 0;
    }
    good = sink_dir_good_bytes(fd);
    close(fd);
    assert(good <= (int64_t)size);
    while (good >= 0 && at < good) {
        int64_t len = batch_member_bytes(data + at, size - (size_t)at);

        assert(len > 0);
        at += len;
    }
    assert(good < 0 || at == good);
    return 0;
}
