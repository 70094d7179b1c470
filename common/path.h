/*
 * path.h: names of files as another process, with another working directory, finds them too.
 */
#ifndef QUERN_COMMON_PATH_H
#define QUERN_COMMON_PATH_H

/* The path from the root on, without symbolic links; the file need not be there, its directory must. Malloc'd. NULL,
 * with errno: the directory cannot be found; *directory_out is its name then, malloc'd. */
char *path_whole(const char *path, char **directory_out);

#endif
