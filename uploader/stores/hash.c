#include "uploader/stores/hash.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "agent/base/fs.h"
#include "agent/base/mem.h"

#define CHUNK_BYTES 65536

void hash_to_hex(const unsigned char hash[HASH_BYTES], char ret[HASH_HEX_BYTES]) {
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < HASH_BYTES; i++) {
        ret[2 * i] = digits[hash[i] >> 4];
        ret[2 * i + 1] = digits[hash[i] & 15];
    }
    ret[2 * HASH_BYTES] = '\0';
}

int hash_hex(const void *data, size_t len, char ret[HASH_HEX_BYTES]) {
    unsigned char hash[HASH_BYTES];

    if (EVP_Digest(data, len, hash, NULL, EVP_sha256(), NULL) != 1)
        return -EIO;
    hash_to_hex(hash, ret);
    return 0;
}

int hash_hmac(const void *key, size_t key_len, const void *data, size_t len,
              unsigned char ret[HASH_BYTES]) {
    return HMAC(EVP_sha256(), key, (int)key_len, data, len, ret, NULL) != NULL ? 0 : -EIO;
}

static int hash_stretch(EVP_MD_CTX *md, char *chunk, int fd, uint64_t offset, uint64_t len,
                        int out) {
    while (len > 0) {
        size_t want = len < CHUNK_BYTES ? (size_t)len : CHUNK_BYTES;
        ssize_t n = pread(fd, chunk, want, (off_t)offset);
        int rc;

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -ENODATA;
        if (EVP_DigestUpdate(md, chunk, (size_t)n) != 1)
            return -EIO;
        rc = out >= 0 ? fs_write_all(out, chunk, (size_t)n) : 0;
        if (rc != 0)
            return rc;
        offset += (uint64_t)n;
        len -= (uint64_t)n;
    }
    return 0;
}

int hash_file(int fd, uint64_t offset, uint64_t len, int out, char ret[HASH_HEX_BYTES]) {
    unsigned char hash[HASH_BYTES];
    char *chunk = mem_alloc(CHUNK_BYTES);
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    int rc = -ENOMEM;

    if (md == NULL || chunk == NULL)
        goto out;
    rc = -EIO;
    if (EVP_DigestInit_ex(md, EVP_sha256(), NULL) != 1)
        goto out;
    rc = hash_stretch(md, chunk, fd, offset, len, out);
    if (rc == 0 && EVP_DigestFinal_ex(md, hash, NULL) != 1)
        rc = -EIO;
    if (rc == 0)
        hash_to_hex(hash, ret);
out:
    EVP_MD_CTX_free(md);
    mem_free(chunk);
    return rc;
}
