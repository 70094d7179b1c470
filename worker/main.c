/*
 * main.c is quern-worker: a worker without functions of its own.
 */
#include "quern/worker.h"

int main(int argc, char **argv)
{
    return quern_worker_main(argc, argv, NULL);
}
