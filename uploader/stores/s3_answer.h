/* s3_answer.h - what S3 says in its documents, and what that means. https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html */
#ifndef PILLION_STORES_S3_ANSWER_H
#define PILLION_STORES_S3_ANSWER_H

#include <stdint.h>

#include "uploader/stores/xml.h"

#define S3_UPLOAD_BYTES 1024 /* identity of an upload of parts */
#define S3_ETAG_BYTES   80
#define S3_UPLOADS      8 /* of one list that are looked at */

enum s3_meaning {
    S3_BY_STATUS, /* uploader/answer.h says it */
    S3_RETRY,
    S3_SETTLE,  /* somebody has to change something first */
    S3_REFUSED, /* never */
    S3_CLOCK,   /* our clock is wrong */
    S3_GONE,    /* there is no such upload (any more) */
    S3_ANEW     /* the upload cannot be completed as it is */
};

struct s3_part {
    uint32_t number; /* 0: not said */
    int64_t size;    /* -1: not said */
    char etag[S3_ETAG_BYTES];
};

struct s3_answer {
    struct xml xml;
    char root[XML_NAME_BYTES]; /* its first element, once that has ended */
    char code[64], message[160];
    char upload[S3_UPLOAD_BYTES]; /* CreateMultipartUpload */
    bool truncated;               /* there is another page … */
    uint32_t next_marker;         /* … behind this part */
    struct s3_part part;          /* the one that is being read */
    void (*on_part)(void *arg, const struct s3_part *part);
    /* ListMultipartUploads: those of `key`. */
    const char *key;
    bool is_key;
    char listed[S3_UPLOAD_BYTES]; /* the one that is being read */
    char uploads[S3_UPLOADS][S3_UPLOAD_BYTES];
    unsigned n_uploads;
    void *arg;
};

/* `key`: whose uploads are looked for; may be NULL, as on_part. */
void s3_answer_begin(struct s3_answer *a, void (*on_part)(void *arg, const struct s3_part *part),
                     void *arg, const char *key);
int s3_answer_feed(struct s3_answer *a, const char *data, size_t len);
/* Whole, and what was asked for. */
bool s3_answer_is(const struct s3_answer *a, const char *root);

/* Of a code; *ret_words (may be NULL) for people, "" where the code says it. */
enum s3_meaning s3_code_meaning(const char *code, const char **ret_words);

#endif
