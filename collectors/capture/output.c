/* output.c - see output.h. Bytes are read (form), compressed, hashed and written in one pass; nothing is held but zlib's window. */
#include "collectors/capture/output.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <openssl/evp.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "agent/base/fs.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "collectors/capture/profile_facts.h"
#include "collectors/heapsnapshot/heapsnapshot.h"

#define PIECE_BYTES 65536
#define WINDOW_BITS 15
#define MEM_LEVEL   8

struct output {
    enum output_form form;
    int work_fd; /* borrowed */
    int fd;      /* -1: memory, or nowhere */
    char *name;  /* the file's; NULL: memory */
    bool keep;
    bool deflating;
    z_stream z;
    EVP_MD_CTX *hash;
    uint8_t *piece;    /* compressed, on its way to the file */
    struct buf memory; /* max 0: nowhere */
    atomic_ullong raw; /* bytes that came */
    uint64_t file;     /* bytes in the file */
    uint64_t depth;    /* JSON: brackets that are open */
    bool in_string, escaped, closed, strange;
    char sha256[65]; /* after the end */
    int err;         /* sticks */
    char why[256];   /* of err; "": errno says it */
    struct output_profile profile;
    struct profile_facts facts;
    struct heapsnapshot *snapshot;
    atomic_uint permille;
};

static void *z_alloc(void *opaque, unsigned items, unsigned size) {
    (void)opaque;
    return mem_calloc(items, size);
}

static void z_free(void *opaque, void *p) {
    (void)opaque;
    mem_free(p);
}

static int output_new(struct output **ret, enum output_form form) {
    struct output *o = mem_calloc(1, sizeof(*o));
    int rc = 0;

    if (o == NULL)
        return -ENOMEM;
    o->form = form;
    o->fd = -1;
    o->z.zalloc = z_alloc;
    o->z.zfree = z_free;
    atomic_init(&o->raw, 0);
    atomic_init(&o->permille, 1001);
    profile_facts_init(&o->facts);
    if (form == OUTPUT_SNAPSHOT)
        rc = heapsnapshot_new(&o->snapshot);
    if (rc == 0)
        *ret = o;
    else
        output_free(o);
    return rc;
}

int output_memory(struct output **ret, size_t max, enum output_form form) {
    int rc = output_new(ret, form);

    if (rc == 0)
        buf_init(&(*ret)->memory, max);
    return rc;
}

static int open_file(struct output *o, const char *name) {
    o->name = mem_strdup(name);
    o->piece = mem_alloc(PIECE_BYTES);
    if (o->name == NULL || o->piece == NULL)
        return -ENOMEM;
    o->hash = EVP_MD_CTX_new();
    if (o->hash == NULL || EVP_DigestInit_ex(o->hash, EVP_sha256(), NULL) != 1)
        return -ENOMEM;
    if (deflateInit2(&o->z, 1, Z_DEFLATED, WINDOW_BITS + 16, MEM_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK)
        return -ENOMEM;
    o->deflating = true;
    o->fd = openat(o->work_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    return o->fd < 0 ? -errno : 0;
}

int output_file(struct output **ret, int work_fd, const char *name, enum output_form form) {
    struct output *o = NULL;
    int rc = output_new(&o, form);

    if (rc != 0)
        return rc;
    o->work_fd = work_fd;
    rc = open_file(o, name);
    if (rc == 0)
        *ret = o;
    else
        output_free(o);
    return rc;
}

static int compress_piece(struct output *o, int flush) {
    int z;

    do {
        size_t n;
        int rc;

        o->z.next_out = o->piece;
        o->z.avail_out = PIECE_BYTES;
        z = deflate(&o->z, flush);
        n = PIECE_BYTES - o->z.avail_out;
        if (n > 0 && EVP_DigestUpdate(o->hash, o->piece, n) != 1)
            return -ENOMEM;
        rc = fs_write_all(o->fd, o->piece, n);
        if (rc != 0)
            return rc;
        o->file += n;
    } while (o->z.avail_out == 0 && z == Z_OK);
    return 0;
}

/* Whether all that was opened is closed; `strange`: anything before the first bracket or behind the last one. */
static void follow_json(struct output *o, const char *data, size_t len) {
    for (size_t i = 0; i < len; i++) {
        char c = data[i];

        if (o->in_string) {
            o->in_string = o->escaped || c != '"';
            o->escaped = !o->escaped && c == '\\';
        } else if (c == '"') {
            o->in_string = true;
        } else if (c == '{' || c == '[') {
            o->strange = o->strange || (o->depth == 0 && (c != '{' || o->closed));
            o->depth++;
        } else if (c == '}' || c == ']') {
            o->strange = o->strange || o->depth == 0;
            o->closed = --o->depth == 0;
        } else if (o->depth == 0 && c != '\n') {
            o->strange = true;
        }
    }
}

static int read_form(struct output *o, const char *data, size_t len) {
    if (o->form == OUTPUT_PROFILE)
        profile_facts_push(&o->facts, data, len);
    if (o->snapshot == NULL) {
        follow_json(o, data, len);
        return 0;
    }
    if (heapsnapshot_push(o->snapshot, data, len) != 0) {
        (void)text_copy(o->why, sizeof(o->why), heapsnapshot_error(o->snapshot));
        return o->why[0] != '\0' ? -EBADMSG : -ENOMEM;
    }
    if (heapsnapshot_nodes_announced(o->snapshot) > 0)
        atomic_store(&o->permille, (unsigned)(heapsnapshot_nodes(o->snapshot) * 1000 /
                                              heapsnapshot_nodes_announced(o->snapshot)));
    return 0;
}

int output_push(struct output *o, const void *data, size_t len) {
    const char *bytes = data;

    if (o->err != 0 || len == 0)
        return o->err;
    atomic_fetch_add(&o->raw, len);
    o->err = read_form(o, bytes, len);
    if (o->err == 0 && o->fd >= 0) {
        o->z.next_in = (unsigned char *)(uintptr_t)bytes; /* zlib does not write to it */
        o->z.avail_in = (unsigned)len;
        o->err = compress_piece(o, Z_NO_FLUSH);
    } else if (o->err == 0 && o->memory.max > 0) {
        buf_add(&o->memory, bytes, len);
        o->err = o->memory.err == -ENOBUFS ? -EFBIG : o->memory.err;
    }
    return o->err;
}

static void take_digest(struct output *o) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;

    if (EVP_DigestFinal_ex(o->hash, digest, &n) != 1)
        return;
    for (unsigned i = 0; i < n && i < 32; i++)
        (void)snprintf(o->sha256 + (size_t)2 * i, 3, "%02x", digest[i]);
}

static int check_whole(struct output *o, char *why) {
    if (o->snapshot != NULL) {
        int rc = heapsnapshot_end(o->snapshot);

        if (rc != 0)
            (void)text_copy(why, 256, heapsnapshot_error(o->snapshot));
        return rc == -EINVAL ? -EBADMSG : rc;
    }
    if (o->closed && !o->strange && o->depth == 0 && !o->in_string)
        return 0;
    (void)snprintf(why, 256, "what came is not whole: %llu bytes that are no JSON object",
                   (unsigned long long)atomic_load(&o->raw));
    return -EBADMSG;
}

int output_end(struct output *o, char *why) {
    why[0] = '\0';
    (void)text_copy(why, 256, o->why);
    if (o->err == 0)
        o->err = check_whole(o, why);
    if (o->err == 0 && o->fd >= 0) {
        o->z.avail_in = 0;
        o->err = compress_piece(o, Z_FINISH);
        if (o->err == 0 && fdatasync(o->fd) != 0)
            o->err = -errno;
        take_digest(o);
    }
    o->profile = (struct output_profile){o->facts.samples, o->facts.start_us, o->facts.end_us};
    if (o->err != 0 && why[0] == '\0')
        (void)snprintf(why, 256, "%s: %s",
                       o->name != NULL ? "the file could not be written" : "no room",
                       strerror(-o->err));
    return o->err;
}

void output_free(struct output *o) {
    if (o == NULL)
        return;
    if (o->deflating)
        (void)deflateEnd(&o->z); /* says only that bytes were lost */
    EVP_MD_CTX_free(o->hash);
    if (o->fd >= 0) {
        (void)close(o->fd); /* it was synced where it matters */
        if (!o->keep)
            (void)unlinkat(o->work_fd, o->name, 0); /* the work directory is swept at the start */
    }
    heapsnapshot_free(o->snapshot);
    buf_clear(&o->memory);
    mem_free(o->piece);
    mem_free(o->name);
    mem_free(o);
}

uint64_t output_raw_bytes(const struct output *o) {
    return atomic_load(&o->raw);
}

uint64_t output_file_bytes(const struct output *o) {
    return o->file;
}

const char *output_sha256(const struct output *o) {
    return o->sha256;
}

const char *output_name(const struct output *o) {
    return o->name;
}

const struct output_profile *output_profile(const struct output *o) {
    return &o->profile;
}

const char *output_text(const struct output *o, size_t *ret_len) {
    *ret_len = o->memory.len;
    return o->memory.data;
}

void output_summary(const struct output *o, size_t top, struct buf *out) {
    const struct heapsnapshot_summary *s =
        o->snapshot != NULL ? heapsnapshot_summary(o->snapshot) : NULL;

    if (s != NULL)
        heapsnapshot_json(s, top, out);
}

double output_share(const struct output *o) {
    unsigned permille = atomic_load(&o->permille);

    return permille > 1000 ? (double)NAN : permille / 1000.0;
}

void output_keep(struct output *o) {
    o->keep = true;
}
