"""The task of celery.py and of the workers it starts; QUERN_PEER_REDIS names the socket of redis."""

import os

import celery

SOCKET = "redis+socket://" + os.environ["QUERN_PEER_REDIS"]
app = celery.Celery("celery_tasks", broker=SOCKET, backend=SOCKET)
app.conf.update(task_acks_late=True, worker_prefetch_multiplier=64, task_ignore_result=False)


@app.task
def square(x):
    return x * x
