/* store_end.h - for tests of stores: a server on threads that keeps objects in memory, speaks just enough WebDAV and S3, and misbehaves
 * as it is told. It remembers whether an object under a final name was ever of another length than the whole. */
#ifndef PILLION_TEST_STORE_END_H
#define PILLION_TEST_STORE_END_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include <netinet/in.h>

#include "batches.h"

#define END_OBJECTS 16
#define END_PARTS   8

enum complete {
    COMPLETE_OK,
    COMPLETE_ERROR,      /* 200, and an error inside */
    COMPLETE_CUT,        /* 200, and half a document; it is complete all the same */
    COMPLETE_BLANKS,     /* white space for a while, then the document */
    COMPLETE_BLANKS_CUT, /* white space, then nothing */
    COMPLETE_LOST,       /* complete, and the connection is cut before the answer */
    COMPLETE_INVALID     /* 400 InvalidPart */
};

struct object {
    char path[1400]; /* "" free */
    size_t len;
    char *data;
};

static struct {
    int fd;
    uint16_t port;
    pthread_t thread;
    pthread_mutex_t lock;
    atomic_int open;
    struct object objects[END_OBJECTS];
    struct object parts[END_PARTS]; /* path: "<number>" */
    char upload[32];                /* "" none */
    unsigned uploads_made, uploads_aborted, parts_taken, requests;
    /* How it misbehaves. */
    long cut_at;       /* of the body of a PUT, in percent; -1: not */
    bool keep_partial; /* what came before the cut stands under that name */
    int cuts;          /* so many times */
    bool lie;          /* HEAD tells another length */
    enum complete complete;
    int complete_times;
    long clock_ahead_s;
    int status; /* of every PUT; 0: as it should be */
    const char *error_body;
    char order[4000]; /* methods and paths, as they came */
    char authorization[1000];
} end;

static struct object *object_find(struct object *list, size_t n, const char *path) {
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i].path, path) == 0)
            return &list[i];
    return NULL;
}

static void object_clear(struct object *o) {
    free(o->data);
    memset(o, 0, sizeof(*o));
}

static void object_put(struct object *list, size_t n, const char *path, char *data, size_t len) {
    struct object *o = object_find(list, n, path);

    if (o == NULL)
        o = object_find(list, n, "");
    assert_non_null(o);
    object_clear(o);
    (void)snprintf(o->path, sizeof(o->path), "%s", path);
    o->data = data;
    o->len = len;
}

static void say(int fd, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(int fd, const char *fmt, ...) {
    char text[4096];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    (void)!send(fd, text, strlen(text), MSG_NOSIGNAL); /* the other side may be gone */
}

static void say_date(int fd) {
    time_t now = time(NULL) + end.clock_ahead_s;
    char text[64];
    struct tm tm;

    (void)strftime(text, sizeof(text), "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", gmtime_r(&now, &tm));
    say(fd, "%s", text);
}

static void reply(int fd, int status, const char *headers, const char *body) {
    say(fd, "HTTP/1.1 %d Because\r\n", status);
    say_date(fd);
    say(fd, "%sContent-Length: %zu\r\n\r\n", headers, strlen(body));
    (void)!send(fd, body, strlen(body), MSG_NOSIGNAL);
}

static char *concat_parts(size_t *ret_len) {
    char *all = NULL, name[16];
    size_t len = 0;

    for (int i = 1; i <= END_PARTS; i++) {
        struct object *o;

        (void)snprintf(name, sizeof(name), "%d", i);
        o = object_find(end.parts, END_PARTS, name);
        if (o == NULL)
            break;
        all = realloc(all, len + o->len + 1);
        memcpy(all + len, o->data, o->len);
        len += o->len;
    }
    *ret_len = len;
    return all;
}

static void drop_parts(void) {
    for (size_t i = 0; i < END_PARTS; i++)
        object_clear(&end.parts[i]);
    end.upload[0] = '\0';
}

#define COMPLETED                                                                                  \
    "<?xml "                                                                                       \
    "version=\"1.0\"?>\n<CompleteMultipartUploadResult><ETag>\"e\"</ETag></"                       \
    "CompleteMultipartUploadResult>"

/* false: the connection ends. */
static bool answer_complete(int fd, const char *path) {
    enum complete how = end.complete_times > 0 ? end.complete : COMPLETE_OK;
    size_t len;

    end.complete_times--;
    if (how == COMPLETE_ERROR) {
        reply(fd, 200, "",
              "<?xml version=\"1.0\"?>\n<Error><Code>InternalError</Code><Message>We encountered "
              "an internal error.</Message></Error>");
        return true;
    }
    if (how == COMPLETE_INVALID) {
        reply(fd, 400, "",
              "<Error><Code>InvalidPart</Code><Message>One or more parts</Message></Error>");
        return true;
    }
    if (how == COMPLETE_BLANKS || how == COMPLETE_BLANKS_CUT) {
        say(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for (int i = 0; i < 30; i++) {
            say(fd, "5\r\n  \r\n \r\n");
            (void)poll(NULL, 0, 20);
        }
        if (how == COMPLETE_BLANKS_CUT)
            return false;
    }
    {
        char *all = concat_parts(&len);

        object_put(end.objects, END_OBJECTS, path, all, len);
        drop_parts();
    }
    if (how == COMPLETE_CUT)
        reply(fd, 200, "",
              "<?xml version=\"1.0\"?>\n<CompleteMultipartUploadResult><ETag>\"e\"</ETa");
    else if (how == COMPLETE_BLANKS)
        say(fd, "%zx\r\n%s\r\n0\r\n\r\n", strlen(COMPLETED), COMPLETED);
    else if (how == COMPLETE_OK)
        reply(fd, 200, "", COMPLETED);
    return how != COMPLETE_LOST;
}

static void list_parts(int fd) {
    char text[4000] = "<ListPartsResult><IsTruncated>false</IsTruncated>", one[200], name[16];

    for (int i = 1; i <= END_PARTS; i++) {
        struct object *o;

        (void)snprintf(name, sizeof(name), "%d", i);
        o = object_find(end.parts, END_PARTS, name);
        if (o == NULL)
            continue;
        (void)snprintf(
            one, sizeof(one),
            "<Part><PartNumber>%d</PartNumber><ETag>&quot;p%d&quot;</ETag><Size>%zu</Size></Part>",
            i, i, o->len);
        strncat(text, one, sizeof(text) - strlen(text) - 1);
    }
    strncat(text, "</ListPartsResult>", sizeof(text) - strlen(text) - 1);
    reply(fd, 200, "", text);
}

#define NO_UPLOAD "<Error><Code>NoSuchUpload</Code><Message>gone</Message></Error>"

/* Requests with a query. Takes data. */
static bool answer_s3(int fd, const char *method, const char *path, const char *query, char *data,
                      size_t len) {
    const char *id = strstr(query, "uploadId="), *number = strstr(query, "partNumber=");
    char name[16], text[600];

    if (strcmp(method, "POST") == 0 && strcmp(query, "uploads=") == 0) {
        (void)snprintf(end.upload, sizeof(end.upload), "up+%u", ++end.uploads_made);
        (void)snprintf(text, sizeof(text),
                       "<InitiateMultipartUploadResult><UploadId>%s</UploadId></"
                       "InitiateMultipartUploadResult>",
                       end.upload);
        reply(fd, 200, "", text);
    } else if (strcmp(method, "GET") == 0 && id == NULL) {
        (void)snprintf(text, sizeof(text),
                       "<ListMultipartUploadsResult><Upload><Key>other</Key><UploadId>x</"
                       "UploadId></Upload>%s%s%s</ListMultipartUploadsResult>",
                       end.upload[0] != '\0' ? "<Upload><Key>pre/a/b/f.bin</Key><UploadId>" : "",
                       end.upload, end.upload[0] != '\0' ? "</UploadId></Upload>" : "");
        reply(fd, 200, "", text);
    } else if (end.upload[0] == '\0' || strstr(id, "up%2B") == NULL) {
        reply(fd, 404, "", NO_UPLOAD);
    } else if (strcmp(method, "DELETE") == 0) {
        end.uploads_aborted++;
        drop_parts();
        reply(fd, 204, "", "");
    } else if (strcmp(method, "GET") == 0) {
        list_parts(fd);
    } else if (strcmp(method, "POST") == 0) {
        free(data);
        return answer_complete(fd, path);
    } else if (number != NULL) {
        (void)snprintf(name, sizeof(name), "%ld", strtol(number + 11, NULL, 10));
        object_put(end.parts, END_PARTS, name, data, len);
        end.parts_taken++;
        (void)snprintf(text, sizeof(text), "ETag: \"p%s\"\r\n", name);
        reply(fd, 200, text, "");
        return true;
    }
    free(data);
    return true;
}

static bool answer(int fd, const char *head, const char *method, char *path, char *data,
                   size_t len) {
    struct object *o = object_find(end.objects, END_OBJECTS, path);
    char *query = strchr(path, '?'), to[1400] = "", lengths[64];
    const char *destination = strstr(head, "Destination: http://");

    if (query != NULL) {
        *query = '\0';
        return answer_s3(fd, method, path, query + 1, data, len);
    }
    if (strcmp(method, "PUT") == 0) {
        object_put(end.objects, END_OBJECTS, path, data, len);
        reply(fd, 201, "", "");
        return true;
    }
    free(data);
    if (strcmp(method, "MKCOL") == 0) {
        reply(fd, 201, "", "");
    } else if (o == NULL) {
        say(fd, "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n");
    } else if (strcmp(method, "HEAD") == 0) {
        (void)snprintf(lengths, sizeof(lengths), "Content-Length: %zu\r\n\r\n",
                       o->len - (end.lie ? 1 : 0));
        say(fd, "HTTP/1.1 200 OK\r\n%s", lengths);
    } else if (strcmp(method, "DELETE") == 0) {
        object_clear(o);
        reply(fd, 204, "", "");
    } else if (strcmp(method, "MOVE") == 0 && destination != NULL) {
        (void)sscanf(strchr(destination + 20, '/'), "%1399[^\r]", to);
        if (object_find(end.objects, END_OBJECTS, to) != NULL &&
            strstr(head, "Overwrite: F") != NULL) {
            reply(fd, 412, "", "");
            return true;
        }
        object_put(end.objects, END_OBJECTS, to, o->data, o->len);
        o->data = NULL;
        object_clear(o);
        reply(fd, 201, "", "");
    } else {
        reply(fd, 405, "", "");
    }
    return true;
}

/* One request whose head is in `head`; the body follows. false: the connection ends. */
static bool one_request(int fd, const char *head, const char *rest, size_t n_rest) {
    char method[16] = "", path[1400] = "", *data;
    const char *length = strcasestr(head, "\r\ncontent-length:"),
               *date = strstr(head, "x-amz-date: "), *auth = strstr(head, "Authorization: ");
    size_t want = length != NULL ? strtoul(length + 17, NULL, 10) : 0, len = n_rest, cut = SIZE_MAX;
    bool more = true, part;

    (void)sscanf(head, "%15s %1399s", method, path);
    pthread_mutex_lock(&end.lock);
    end.requests++;
    if (strlen(end.order) + strlen(method) + strlen(path) + 4 < sizeof(end.order)) {
        strncat(end.order, method, 16);
        strncat(end.order, " ", 2);
        strncat(end.order, path, 1400);
        strncat(end.order, "\n", 2);
    }
    if (auth != NULL)
        (void)snprintf(end.authorization, sizeof(end.authorization), "%.*s",
                       (int)strcspn(auth, "\r"), auth);
    if (strcmp(method, "PUT") == 0 && end.cut_at >= 0 && end.cuts > 0) {
        cut = want * (size_t)end.cut_at / 100;
        end.cuts--;
    }
    pthread_mutex_unlock(&end.lock);
    data = malloc(want + 1);
    memcpy(data, rest, n_rest);
    while (len < want && len < cut) {
        ssize_t n = recv(fd, data + len, want - len, 0);

        if (n <= 0)
            break;
        len += (size_t)n;
    }
    pthread_mutex_lock(&end.lock);
    part = strchr(path, '?') != NULL;
    if (len < want || cut != SIZE_MAX) {
        if (end.keep_partial && !part)
            object_put(end.objects, END_OBJECTS, path, data, len < cut ? len : cut);
        else
            free(data);
        more = false;
    } else if (end.status != 0 && strcmp(method, "PUT") == 0) {
        free(data);
        reply(fd, end.status, "", end.error_body != NULL ? end.error_body : "");
    } else if (end.clock_ahead_s != 0 && date != NULL) {
        struct tm tm = {0};
        long off;

        (void)strptime(date + 12, "%Y%m%dT%H%M%SZ", &tm);
        off = (long)(timegm(&tm) - time(NULL)) - end.clock_ahead_s;
        if (labs(off) > 900) {
            free(data);
            reply(fd, 403, "",
                  strcmp(method, "HEAD") == 0
                      ? ""
                      : "<Error><Code>RequestTimeTooSkewed</Code><Message>off</Message></Error>");
        } else {
            more = answer(fd, head, method, path, data, len);
        }
    } else {
        more = answer(fd, head, method, path, data, len);
    }
    pthread_mutex_unlock(&end.lock);
    return more;
}

static void *serve(void *arg) {
    int fd = (int)(intptr_t)arg;
    char text[32768];
    bool more = true;

    while (more) {
        size_t len = 0, body;
        char *stop = NULL;

        while (stop == NULL && len + 1 < sizeof(text)) {
            ssize_t n = recv(fd, text + len, sizeof(text) - 1 - len, 0);

            if (n <= 0)
                goto out;
            len += (size_t)n;
            text[len] = '\0';
            stop = memmem(text, len, "\r\n\r\n", 4);
        }
        if (stop == NULL)
            break;
        body = (size_t)(stop + 4 - text);
        stop[2] = '\0';
        more = one_request(fd, text, text + body, len - body);
    }
out:
    close(fd);
    atomic_fetch_sub(&end.open, 1);
    return NULL;
}

static void *accept_all(void *arg) {
    int fd;

    (void)arg;
    while ((fd = accept(end.fd, NULL, NULL)) >= 0) {
        pthread_t t;

        atomic_fetch_add(&end.open, 1);
        assert_int_equal(pthread_create(&t, NULL, serve, (void *)(intptr_t)fd), 0);
        (void)pthread_detach(t);
    }
    return NULL;
}

static UNUSED int start_end(void **state) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    uv_loop_t loop;

    (void)state;
    /* libuv keeps a pipe for ever from its first loop on. */
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(uv_loop_close(&loop), 0);
    (void)pthread_mutex_init(&end.lock, NULL);
    end.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(end.fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(end.fd, 100), 0);
    assert_int_equal(getsockname(end.fd, (struct sockaddr *)&a, &len), 0);
    end.port = ntohs(a.sin_port);
    return pthread_create(&end.thread, NULL, accept_all, NULL);
}

static UNUSED int stop_end(void **state) {
    (void)state;
    (void)shutdown(end.fd, SHUT_RDWR);
    (void)pthread_join(end.thread, NULL);
    close(end.fd);
    return 0;
}

/* As new: no objects, no misbehaviour. */
static UNUSED void reset_end(void) {
    pthread_mutex_lock(&end.lock);
    for (size_t i = 0; i < END_OBJECTS; i++)
        object_clear(&end.objects[i]);
    drop_parts();
    end.uploads_made = end.uploads_aborted = end.parts_taken = end.requests = 0;
    end.cut_at = -1;
    end.keep_partial = end.lie = false;
    end.cuts = end.complete_times = end.status = 0;
    end.complete = COMPLETE_OK;
    end.clock_ahead_s = 0;
    end.error_body = NULL;
    end.order[0] = end.authorization[0] = '\0';
    pthread_mutex_unlock(&end.lock);
}

#endif
