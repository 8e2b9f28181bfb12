#include <fcntl.h>
#include <sysexits.h>

#include "agent/base/fs.h"
#include "agent/base/mem.h"
#include "agent/cli/cli.h"
#include "agent/cli/client.h"
#include "agent/config.h"
#include "agent/init/prepare.h"

#define WHY_BYTES     1024
#define MESSAGE_BYTES 65536

static const char help[] =
    "usage: pillion preload\n\n"
    "Prints the path to put after NODE_OPTIONS=--require, for Node.js processes that are not "
    "started\n"
    "by `pillion run` (which does this by itself). The file is written when it is not there.\n\n"
    "Examples:\n"
    "  NODE_OPTIONS=\"--require $(pillion preload)\" node server.js\n"
    "  node --require \"$(pillion preload)\" server.js\n\n"
    "Ends with 77 when the runtime directory cannot be used: then nothing is printed, because a\n"
    "--require of a file that is not there ends every Node.js process.\n";

static int print_path(const struct config *config) {
    char why[WHY_BYTES] = "";
    int dirfd = fs_private_dir(config->runtime_dir, prepare_dir_mode(), why, sizeof(why)), rc;

    if (dirfd < 0) {
        (void)fprintf(stderr, "pillion preload: %s\n", why);
        return EX_NOPERM;
    }
    rc = prepare_files(dirfd, config->runtime_dir, NULL, why, sizeof(why));
    close(dirfd);
    if (rc != 0) {
        (void)fprintf(stderr, "pillion preload: %s\n", why);
        return EX_CANTCREAT;
    }
    return printf("%s/preload.js\n", config->runtime_dir) < 0 || fflush(stdout) != 0 ? EX_IOERR
                                                                                     : EX_OK;
}

int cli_preload_main(int argc, char **argv, char *const *env) {
    struct config config;
    struct buf why;
    int rc = client_arguments(argc, argv, help, NULL);

    if (rc >= 0)
        return rc;
    buf_init(&why, MESSAGE_BYTES);
    rc = config_load(&config, env, &why);
    if (rc == 0) {
        rc = print_path(&config);
    } else {
        (void)fprintf(stderr, "pillion preload: %s\n", why.len > 0 ? why.data : strerror(-rc));
        rc = EX_CONFIG;
    }
    config_clear(&config);
    buf_clear(&why);
    return rc;
}
