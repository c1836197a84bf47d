/* Queues, buffers and pools. A buffer belongs to the pool that made it and goes back to that pool's queue when
   the last holder releases it. */
#define _GNU_SOURCE
#include "sim.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

struct MMAL_QUEUE_T {
    pthread_mutex_t lock;
    pthread_cond_t filled;
    MMAL_BUFFER_HEADER_T *first, *last;
    unsigned length;
};

MMAL_QUEUE_T *mmal_queue_create(void) {
    MMAL_QUEUE_T *queue = sim_alloc(sizeof *queue);
    pthread_mutex_init(&queue->lock, NULL);
    sim_cond_init(&queue->filled);
    return queue;
}

void mmal_queue_destroy(MMAL_QUEUE_T *queue) {
    pthread_mutex_destroy(&queue->lock);
    pthread_cond_destroy(&queue->filled);
    free(queue);
}

void mmal_queue_put(MMAL_QUEUE_T *queue, MMAL_BUFFER_HEADER_T *buffer) {
    pthread_mutex_lock(&queue->lock);
    buffer->next = NULL;
    if (queue->last) queue->last->next = buffer;
    else queue->first = buffer;
    queue->last = buffer;
    queue->length++;
    pthread_cond_signal(&queue->filled);
    pthread_mutex_unlock(&queue->lock);
}

void mmal_queue_put_back(MMAL_QUEUE_T *queue, MMAL_BUFFER_HEADER_T *buffer) {
    pthread_mutex_lock(&queue->lock);
    buffer->next = queue->first;
    queue->first = buffer;
    if (!queue->last) queue->last = buffer;
    queue->length++;
    pthread_cond_signal(&queue->filled);
    pthread_mutex_unlock(&queue->lock);
}

static MMAL_BUFFER_HEADER_T *take_first(MMAL_QUEUE_T *queue) {
    MMAL_BUFFER_HEADER_T *buffer = queue->first;
    if (!buffer) return NULL;
    queue->first = buffer->next;
    if (!queue->first) queue->last = NULL;
    queue->length--;
    buffer->next = NULL;
    return buffer;
}

MMAL_BUFFER_HEADER_T *mmal_queue_get(MMAL_QUEUE_T *queue) {
    pthread_mutex_lock(&queue->lock);
    MMAL_BUFFER_HEADER_T *buffer = take_first(queue);
    pthread_mutex_unlock(&queue->lock);
    return buffer;
}

MMAL_BUFFER_HEADER_T *mmal_queue_wait(MMAL_QUEUE_T *queue) {
    pthread_mutex_lock(&queue->lock);
    while (!queue->first) pthread_cond_wait(&queue->filled, &queue->lock);
    MMAL_BUFFER_HEADER_T *buffer = take_first(queue);
    pthread_mutex_unlock(&queue->lock);
    return buffer;
}

MMAL_BUFFER_HEADER_T *mmal_queue_timedwait(MMAL_QUEUE_T *queue, uint32_t milliseconds) {
    struct timespec until = sim_timespec(sim_monotonic_ns() + (int64_t)milliseconds * 1000000);
    pthread_mutex_lock(&queue->lock);
    while (!queue->first)
        if (pthread_cond_timedwait(&queue->filled, &queue->lock, &until) == ETIMEDOUT) break;
    MMAL_BUFFER_HEADER_T *buffer = take_first(queue);
    pthread_mutex_unlock(&queue->lock);
    return buffer;
}

unsigned mmal_queue_length(MMAL_QUEUE_T *queue) {
    pthread_mutex_lock(&queue->lock);
    unsigned length = queue->length;
    pthread_mutex_unlock(&queue->lock);
    return length;
}

/* ---- pools ---- */

static MMAL_BUFFER_HEADER_T *new_buffer(MMAL_POOL_T *pool, uint32_t payload_size) {
    MMAL_BUFFER_HEADER_T *buffer = sim_alloc(sizeof *buffer);
    buffer->priv = sim_alloc(sizeof *buffer->priv);
    buffer->priv->pool = pool;
    buffer->priv->holders = 1;
    buffer->type = sim_alloc(sizeof *buffer->type);
    buffer->data = payload_size ? sim_alloc(payload_size) : NULL;
    buffer->alloc_size = payload_size;
    mmal_buffer_header_reset(buffer);
    return buffer;
}

MMAL_POOL_T *mmal_pool_create(unsigned headers, uint32_t payload_size) {
    MMAL_POOL_T *pool = sim_alloc(sizeof *pool);
    pool->queue = mmal_queue_create();
    pool->headers_num = headers;
    pool->header = sim_alloc((headers + 1) * sizeof *pool->header);
    for (unsigned i = 0; i < headers; i++) {
        pool->header[i] = new_buffer(pool, payload_size);
        mmal_queue_put(pool->queue, pool->header[i]);
    }
    return pool;
}

void mmal_pool_destroy(MMAL_POOL_T *pool) {
    for (uint32_t i = 0; i < pool->headers_num; i++) {
        free(pool->header[i]->data);
        free(pool->header[i]->type);
        free(pool->header[i]->priv);
        free(pool->header[i]);
    }
    free(pool->header);
    mmal_queue_destroy(pool->queue);
    free(pool);
}

MMAL_POOL_T *mmal_port_pool_create(MMAL_PORT_T *port, unsigned headers, uint32_t payload_size) {
    (void)port;
    return sim_refusal("pool") == MMAL_SUCCESS ? mmal_pool_create(headers, payload_size) : NULL;
}

void mmal_port_pool_destroy(MMAL_PORT_T *port, MMAL_POOL_T *pool) {
    (void)port;
    mmal_pool_destroy(pool);
}

/* ---- buffers ---- */

void mmal_buffer_header_acquire(MMAL_BUFFER_HEADER_T *buffer) {
    __atomic_add_fetch(&buffer->priv->holders, 1, __ATOMIC_SEQ_CST);
}

void mmal_buffer_header_reset(MMAL_BUFFER_HEADER_T *buffer) {
    buffer->length = buffer->offset = buffer->flags = buffer->cmd = 0;
    buffer->pts = buffer->dts = MMAL_TIME_UNKNOWN;
}

void mmal_buffer_header_release(MMAL_BUFFER_HEADER_T *buffer) {
    if (__atomic_sub_fetch(&buffer->priv->holders, 1, __ATOMIC_SEQ_CST)) return;
    __atomic_store_n(&buffer->priv->holders, 1, __ATOMIC_SEQ_CST);
    mmal_buffer_header_reset(buffer);
    mmal_queue_put(buffer->priv->pool->queue, buffer);
}

/* Payload memory is ordinary memory here, always mapped. */
MMAL_STATUS_T mmal_buffer_header_mem_lock(MMAL_BUFFER_HEADER_T *buffer) {
    (void)buffer;
    return MMAL_SUCCESS;
}

void mmal_buffer_header_mem_unlock(MMAL_BUFFER_HEADER_T *buffer) {
    (void)buffer;
}
