/* The file of positions, whatever is in it: the sinks of now keep their places, and nothing is taken from a line whose
 * checksum is wrong. */
#include <assert.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "uploader/spool/positions.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static int dirfd = -1; /* of an empty directory that stays in /tmp */
    struct positions p;
    bool damaged;
    int fd;

    if (dirfd < 0) {
        char dir[] = "/tmp/pillion-fuzz-XXXXXX";

        if (mkdtemp(dir) == NULL)
            return 0;
        dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    fd = openat(dirfd, "positions", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return 0;
    if (write(fd, data, size) == (ssize_t)size) {
        positions_init(&p);
        assert(positions_claim(&p, "file:/somewhere") == 0);
        assert(positions_load(&p, dirfd, &damaged) == 0);
        assert(p.n >= 1 && p.n <= LIMIT_SPOOL_POSITIONS);
        assert(strcmp(p.items[0].sink, "file:/somewhere") == 0 && p.items[0].active);
        for (unsigned i = 1; i < p.n; i++)
            assert(!p.items[i].active);
        positions_clear(&p);
    }
    close(fd);
    (void)unlinkat(dirfd, "positions", 0);
    return 0;
}
