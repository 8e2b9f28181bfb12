#include "uploader/stores/s3_answer.h"

#include <errno.h>

#include "agent/base/mem.h"
#include "agent/base/text.h"

static const struct {
    const char *code;
    enum s3_meaning meaning;
    const char *words;
} codes[] = {
    {"RequestTimeTooSkewed", S3_CLOCK, "our clock is wrong"},
    {"RequestExpired", S3_CLOCK, "our clock is wrong"},
    {"NoSuchUpload", S3_GONE, ""},
    {"InvalidPart", S3_ANEW, ""},
    {"InvalidPartOrder", S3_ANEW, ""},
    {"SlowDown", S3_RETRY, ""},
    {"InternalError", S3_RETRY, ""},
    {"ServiceUnavailable", S3_RETRY, ""},
    {"OperationAborted", S3_RETRY, ""},
    {"RequestTimeout", S3_RETRY, ""},
    {"IncompleteBody", S3_RETRY, ""},
    {"BadDigest", S3_RETRY, "it arrived changed"},
    {"XAmzContentSHA256Mismatch", S3_RETRY, "it arrived changed"},
    {"InvalidAccessKeyId", S3_SETTLE, "AWS_ACCESS_KEY_ID is not known there"},
    {"XAdminUserNotFound", S3_SETTLE, "AWS_ACCESS_KEY_ID is not known there"}, /* versitygw */
    {"SignatureDoesNotMatch", S3_SETTLE, "AWS_SECRET_ACCESS_KEY is wrong"},
    {"AccessDenied", S3_SETTLE, "these credentials may not do this"},
    {"ExpiredToken", S3_SETTLE, "AWS_SESSION_TOKEN has expired"},
    {"InvalidToken", S3_SETTLE, "AWS_SESSION_TOKEN is wrong"},
    {"TokenRefreshRequired", S3_SETTLE, "AWS_SESSION_TOKEN has expired"},
    {"NoSuchBucket", S3_SETTLE, "there is no such bucket"},
    {"PermanentRedirect", S3_SETTLE, "the bucket is in another region: AWS_REGION"},
    {"AuthorizationHeaderMalformed", S3_SETTLE, "the bucket is in another region: AWS_REGION"},
    {"IllegalLocationConstraintException", S3_SETTLE,
     "the bucket is in another region: AWS_REGION"},
    {"QuotaExceeded", S3_SETTLE, "there is no room left"},
    {"EntityTooLarge", S3_REFUSED, ""},
    {"KeyTooLongError", S3_REFUSED, ""},
};

enum s3_meaning s3_code_meaning(const char *code, const char **ret_words) {
    for (size_t i = 0; i < ARRAY_LEN(codes); i++)
        if (strcmp(code, codes[i].code) == 0) {
            if (ret_words != NULL)
                *ret_words = codes[i].words;
            return codes[i].meaning;
        }
    if (ret_words != NULL)
        *ret_words = "";
    return S3_BY_STATUS;
}

/* A value that does not fit is as if it had not been said: half of it would be another one. */
static void keep(char *out, size_t size, const char *text) {
    if (text == NULL || !text_copy(out, size, text))
        out[0] = '\0';
}

static void keep_number(uint32_t *ret, const char *text) {
    uint64_t n;

    if (text != NULL && text_u64(text, &n) == 0 && n <= UINT32_MAX)
        *ret = (uint32_t)n;
}

static void on_part_end(struct s3_answer *a, const char *field, const char *text) {
    uint64_t n;

    if (strcmp(field, "/PartNumber") == 0)
        keep_number(&a->part.number, text);
    else if (strcmp(field, "/ETag") == 0)
        keep(a->part.etag, sizeof(a->part.etag), text);
    else if (strcmp(field, "/Size") == 0 && text != NULL && text_u64(text, &n) == 0 &&
             n <= INT64_MAX)
        a->part.size = (int64_t)n;
    if (*field != '\0')
        return;
    if (a->on_part != NULL && a->part.number > 0 && a->part.etag[0] != '\0')
        a->on_part(a->arg, &a->part);
    a->part = (struct s3_part){.size = -1};
}

static void on_upload_end(struct s3_answer *a, const char *field, const char *text) {
    if (strcmp(field, "/Key") == 0)
        a->is_key = a->key != NULL && text != NULL && strcmp(text, a->key) == 0;
    else if (strcmp(field, "/UploadId") == 0)
        keep(a->listed, sizeof(a->listed), text);
    if (*field != '\0')
        return;
    if (a->is_key && a->listed[0] != '\0' && a->n_uploads < S3_UPLOADS)
        (void)text_copy(a->uploads[a->n_uploads++], S3_UPLOAD_BYTES, a->listed);
    a->is_key = false;
    a->listed[0] = '\0';
}

static void on_end(void *arg, const char *path, const char *text) {
    static const char part[] = "ListPartsResult/Part";
    static const char upload[] = "ListMultipartUploadsResult/Upload";
    struct s3_answer *a = arg;

    if (strchr(path, '/') == NULL)
        keep(a->root, sizeof(a->root), path);
    else if (strcmp(path, "Error/Code") == 0)
        keep(a->code, sizeof(a->code), text);
    else if (strcmp(path, "Error/Message") == 0)
        (void)text_copy(a->message, sizeof(a->message), text != NULL ? text : ""); /* cut is fine */
    else if (strcmp(path, "InitiateMultipartUploadResult/UploadId") == 0)
        keep(a->upload, sizeof(a->upload), text);
    else if (strcmp(path, "ListPartsResult/IsTruncated") == 0)
        a->truncated = text != NULL && strcmp(text, "true") == 0;
    else if (strcmp(path, "ListPartsResult/NextPartNumberMarker") == 0)
        keep_number(&a->next_marker, text);
    else if (text_starts(path, part) && strchr("/", path[sizeof(part) - 1]) != NULL)
        on_part_end(a, path + sizeof(part) - 1, text);
    else if (text_starts(path, upload) && strchr("/", path[sizeof(upload) - 1]) != NULL)
        on_upload_end(a, path + sizeof(upload) - 1, text);
}

void s3_answer_begin(struct s3_answer *a, void (*on_part)(void *arg, const struct s3_part *part),
                     void *arg, const char *key) {
    memset(a, 0, sizeof(*a));
    a->on_part = on_part;
    a->arg = arg;
    a->key = key;
    a->part.size = -1;
    xml_begin(&a->xml, on_end, a);
}

int s3_answer_feed(struct s3_answer *a, const char *data, size_t len) {
    return xml_feed(&a->xml, data, len);
}

bool s3_answer_is(const struct s3_answer *a, const char *root) {
    return xml_complete(&a->xml) && strcmp(a->root, root) == 0;
}
