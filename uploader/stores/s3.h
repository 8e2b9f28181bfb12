/* s3.h - inside of the store in S3: signed requests (s3.c), uploads in parts (s3_parts.c), what is known of one on disk (s3_state.c).
 *
 *     up to 16 MiB   PUT → HEAD
 *     more           ListParts of the upload that the state names, or: abort what is left of earlier ones, CreateMultipartUpload
 *                    → each part that is missing: hash in a worker thread, UploadPart → CompleteMultipartUpload → HEAD
 *
 * An attempt that fails keeps its upload, and the next one goes on with it; one that is given up for good aborts it. */
#ifndef PILLION_STORES_S3_H
#define PILLION_STORES_S3_H

#include <time.h>

#include "uploader/stores/s3_answer.h"
#include "uploader/stores/sigv4.h"
#include "uploader/stores/web.h"

#define S3_SINGLE_BYTES (16u << 20) /* more than that goes in parts */
#define S3_PART_BYTES   (8u << 20)  /* at least; S3 takes 5 MiB to 5 GiB … */
#define S3_PARTS        10000u      /* … and so many of them */
#define S3_PATH_BYTES   2400        /* percent-encoded */
#define S3_QUERY_BYTES  3600
#define S3_REGION_BYTES 64

struct s3;
typedef void (*s3_next_cb)(struct s3 *s, const struct http_reply *reply);

/* Strings and body stay until the answer is there. */
struct s3_request {
    const char *method;
    const char *path;    /* NULL: the object */
    const char *query;   /* "" or NULL none */
    const char *payload; /* its SHA-256; NULL: of nothing */
    bool describes;      /* with content type and our own SHA-256 as metadata */
    const void *body;    /* "" for a POST without any */
    size_t body_len;
    bool has_file;
    struct http_file file;
    uint32_t total_ms, stall_ms;
    void (*on_part)(void *arg, const struct s3_part *part);
    const char *list_key;
};

struct s3_upload {
    char id[S3_UPLOAD_BYTES];
    uint32_t n, next; /* parts; the one that is under way, from 0 */
    uint64_t part_bytes;
    char (*etags)[S3_ETAG_BYTES]; /* "" not there yet */
    char hash[HASH_HEX_BYTES];
    struct buf body;           /* of CompleteMultipartUpload */
    struct timespec mtime;     /* of the file when we began */
    struct store_result cause; /* why it is given up */
    char why[STORE_ERROR_BYTES];
    uint32_t marker; /* page of ListParts */
    bool asked_head; /* the upload was gone: perhaps it is complete */
    int rc;          /* of the work */
};

struct s3 {
    struct web web;
    char *access, *secret, *token; /* token NULL: none */
    char region[S3_REGION_BYTES], bucket[64], host[320];
    bool tls, path_style;
    char *prefix; /* "" or "a/b" */
    char *state_dir;
    int64_t clock_offset_s;        /* of the other side's clock against ours */
    bool clock_learned;            /* in this attempt */
    char key[STORE_URL_BYTES / 2]; /* with the prefix */
    char object[S3_PATH_BYTES];    /* path of it in the URL */
    char query[S3_QUERY_BYTES];
    struct s3_request request; /* the one that is under way */
    s3_next_cb next;
    struct s3_answer answer;
    struct s3_upload up;
    uv_work_t work;
    char bucket_path[80];
    /* What earlier files have left. */
    char forgotten[STORE_KEY_BYTES]; /* key of a file whose uploads are being aborted; "" none */
    unsigned to_clean;
    void (*cleaned)(struct s3 *s);
    void (*after_clean)(struct s3 *s);
};

/* s3.c */
void s3_ask(struct s3 *s, const struct s3_request *rq, s3_next_cb next);
/* Ends the attempt with what this answer means. */
void s3_fail(struct s3 *s, const char *what, const struct http_reply *reply);
enum s3_meaning s3_meaning(const struct s3 *s, const struct http_reply *reply);
void s3_head(struct s3 *s, s3_next_cb next);
/* It is there, with our length and SHA-256. Otherwise *why is the difference for people. */
bool s3_is_ours(struct s3 *s, const struct http_reply *reply, char *why, size_t size);
void s3_on_final_head(struct s3 *s, const struct http_reply *reply);
void s3_set_key(struct s3 *s, const char *key);
bool s3_ok(const struct http_reply *reply);

/* s3_parts.c: s3_clean first aborts what forgotten files have left, then goes on. */
void s3_clean(struct s3 *s, void (*then)(struct s3 *s));
void s3_upload(struct s3 *s);
void s3_upload_clear(struct s3 *s);

/* s3_state.c: <state_dir>/<hash of the place>.upload and …forget. Failures cost the going on, nothing else. */
bool s3_state_load(struct s3 *s);       /* into up.id; of this very file only */
void s3_state_save(const struct s3 *s); /* up.id */
void s3_state_drop(const struct s3 *s);
void s3_state_forget(struct s3 *s, const char *key);
bool s3_state_forgotten(struct s3 *s); /* one of them into s->forgotten */
void s3_state_forgotten_done(struct s3 *s);

#endif
