/* appname.h - what the application is called when nobody said so: "name" in the package.json of the working directory. */
#ifndef PILLION_APPNAME_H
#define PILLION_APPNAME_H

/* Never NULL without -ENOMEM: PILLION_APP / OTEL_SERVICE_NAME (`given`), else package.json's name, else "app". Owned by the caller. */
char *appname_find(const char *given);

#endif
