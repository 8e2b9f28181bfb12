/* What a store tells us: documents of S3 (first byte 0: whole and byte by byte must mean the same), the file of an artifact that an
 * earlier run left (1). */
#include <assert.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/fs.h"
#include "agent/base/mem.h"
#include "uploader/artifact_meta.h"
#include "uploader/stores/s3_answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_part(void *arg, const struct s3_part *part) {
    assert(part->number > 0 && part->etag[0] != '\0' && strlen(part->etag) < S3_ETAG_BYTES);
    ++*(unsigned *)arg;
}

static void one_document(const char *data, size_t size) {
    struct s3_answer whole, pieces;
    unsigned a = 0, b = 0;
    enum s3_meaning m;

    s3_answer_begin(&whole, on_part, &a, "k");
    (void)s3_answer_feed(&whole, data, size);
    s3_answer_begin(&pieces, on_part, &b, "k");
    for (size_t i = 0; i < size; i++)
        (void)s3_answer_feed(&pieces, data + i, 1);
    assert(a == b && whole.n_uploads == pieces.n_uploads && whole.n_uploads <= S3_UPLOADS);
    assert(strcmp(whole.code, pieces.code) == 0 && strcmp(whole.upload, pieces.upload) == 0);
    assert(xml_complete(&whole.xml) == xml_complete(&pieces.xml));
    m = s3_code_meaning(whole.code, NULL);
    assert(m >= S3_BY_STATUS && m <= S3_ANEW);
}

static char dir[] = "/tmp/pillion-fuzz-XXXXXX";
static const char id[] = "0190a0000000-0123456789abcdef";

static void clean_up(void) {
    char path[100];

    (void)snprintf(path, sizeof(path), "%s/%s.json", dir, id);
    (void)unlink(path);
    (void)rmdir(dir);
}

static void one_meta(const char *data, size_t size) {
    char key[ARTIFACT_KEY_BYTES];
    struct artifact_meta m;
    struct buf message;
    static int dirfd = -1;

    if (dirfd < 0) {
        assert(mkdtemp(dir) != NULL);
        dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert(dirfd >= 0);
        (void)atexit(clean_up);
    }
    if (fs_write_at(dirfd, "0190a0000000-0123456789abcdef.json", data, size, 0600) != 0 ||
        artifact_meta_load(&m, dirfd, id) != 0)
        return;
    if (artifact_key(&m.a, key, sizeof(key)) == 0)
        assert(key[0] != '/' && key[0] != '.' && strstr(key, "/.") == NULL &&
               strstr(key, "//") == NULL);
    buf_init(&message, 65536);
    artifact_message(&m, &message);
    assert(message.err == 0);
    buf_clear(&message);
    artifact_meta_clear(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *copy;

    if (size == 0)
        return 0;
    copy = malloc(size); /* so that a byte too far is seen */
    memcpy(copy, data + 1, size - 1);
    if ((data[0] & 1) == 0)
        one_document(copy, size - 1);
    else
        one_meta(copy, size - 1);
    free(copy);
    return 0;
}
