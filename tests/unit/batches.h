/* batches.h - for the tests of the uploader: scratch directories, unpacking, a loop with a
 * deadline. */
#ifndef PILLION_TEST_BATCHES_H
#define PILLION_TEST_BATCHES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>
#include <zlib.h>

#include "agent/base/clock.h"
#include "agent/base/counters.h"
#include "agent/base/limits.h"
#include "agent/base/mem.h"
#include "uploader/batch.h"

#define TEST_BOOT "0123456789abcdef0123456789abcdef"
#define UNUSED    __attribute__((unused))

/* The loop until *done, at most 20 s; false when it did not come. */
static UNUSED bool run_until(uv_loop_t *loop, const bool *done) {
    uint64_t end = clock_mono_ms() + 20000;

    while (!*done && clock_mono_ms() < end) {
        (void)uv_run(loop, UV_RUN_NOWAIT);
        if (!*done)
            (void)poll(NULL, 0, 1);
    }
    return *done;
}

static UNUSED void scratch_make(char dir[64]) {
    (void)snprintf(dir, 64, "/tmp/pillion-batches-XXXXXX");
    assert_non_null(mkdtemp(dir));
}

static UNUSED void scratch_remove(const char *dir) {
    DIR *d = opendir(dir);
    struct dirent *e;
    char path[512];

    if (d == NULL)
        return;
    while ((e = readdir(d)) != NULL) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        (void)snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
        if (unlink(path) != 0 && errno == EISDIR)
            scratch_remove(path);
    }
    (void)closedir(d);
    (void)rmdir(dir);
}

/* What a shell command prints, at most size - 1 bytes; returns its exit code. */
static UNUSED int shell(char *out, size_t size, const char *fmt, ...) {
    char command[1024];
    va_list ap;
    size_t n;
    FILE *p;
    int rc;

    va_start(ap, fmt);
    (void)vsnprintf(command, sizeof(command), fmt, ap);
    va_end(ap);
    p = popen(command, "r");
    assert_non_null(p);
    n = fread(out, 1, size - 1, p);
    out[n] = '\0';
    rc = pclose(p);
    return WIFEXITED(rc) ? WEXITSTATUS(rc) : -1;
}

/* All gzip members behind each other as text; NULL when they are not whole. free() it. */
static UNUSED char *unpack(const void *data, size_t len, size_t *ret_len) {
    size_t cap = 64u << 20, n = 0;
    char *text = malloc(cap + 1);
    z_stream z = {0};
    bool good = true;

    assert_non_null(text);
    z.next_in = (unsigned char *)(uintptr_t)data;
    z.avail_in = (unsigned)len;
    while (good && z.avail_in > 0) {
        assert_int_equal(inflateInit2(&z, 31), Z_OK);
        z.next_out = (unsigned char *)text + n;
        z.avail_out = (unsigned)(cap - n);
        good = inflate(&z, Z_FINISH) == Z_STREAM_END;
        n += z.total_out;
        (void)inflateEnd(&z);
    }
    text[n] = '\0';
    if (ret_len != NULL)
        *ret_len = n;
    if (!good) {
        free(text);
        return NULL;
    }
    return text;
}

static UNUSED char *slurp(const char *path, size_t *ret_len) {
    FILE *f = fopen(path, "r");
    char *data = malloc(64u << 20);

    assert_non_null(f);
    assert_non_null(data);
    *ret_len = fread(data, 1, 64u << 20, f);
    (void)fclose(f);
    return data;
}

/* A record like a worker's, about 4 KB, different with each n. */
static UNUSED size_t make_record(char out[8192], unsigned n) {
    size_t len = (size_t)snprintf(
        out, 8192, "{\"kind\":\"process\",\"worker\":\"1:%u\",\"sample\":%u", n % 8, n);

    for (unsigned i = 0; i < 80; i++)
        len += (size_t)snprintf(out + len, 8192 - len, ",\"v8js.memory.heap.space.size{n=%u}\":%u",
                                i, (n * 2654435761u + i * 40503u * (i % 3 == 0 ? n : 1)) >> 4);
    out[len++] = '}';
    out[len] = '\0';
    return len;
}

/* A finished batch of `records` records; `noise`: of text that does not compress. */
static UNUSED struct batch *make_batch(uint64_t seq, unsigned records, bool noise) {
    static char text[8192];
    struct batch_writer *w;
    struct batch *b;
    uint32_t x = (uint32_t)seq * 2654435761u + 1;

    assert_int_equal(batch_writer_new(&w, "shop", "host-1", TEST_BOOT), 0);
    assert_int_equal(batch_writer_begin(w, seq), 0);
    for (unsigned i = 0; i < records; i++) {
        size_t len = make_record(text, (unsigned)seq * 100 + i);

        for (size_t k = 20; noise && k < len - 20; k++) {
            x = x * 1664525u + 1013904223u;
            text[k] = (char)('A' + (x >> 16) % 50);
        }
        for (size_t k = 0; noise && k < len; k++) /* stays JSON enough for our purpose */
            if (text[k] == '\\')
                text[k] = '/';
        assert_int_equal(batch_writer_add(w, text, len), 0);
    }
    assert_int_equal(batch_writer_finish(w, &b), 0);
    batch_writer_free(w);
    return b;
}

#endif
