/* SPDX-License-Identifier: Apache-2.0 */
#include "stack.h"

#include <rte_debug.h>
#include <stdlib.h>

static int stack_alloc(struct rte_mempool *pool) {
    struct stack *stack = calloc(1, sizeof(*stack) + pool->size * sizeof(void *));

    if (stack == NULL)
        return -ENOMEM;
    pthread_mutex_init(&stack->lock, NULL);
    pool->pool_data = stack;
    return 0;
}

static void stack_free(struct rte_mempool *pool) {
    free(pool->pool_data);
}

static int push(struct rte_mempool *pool, void *const *objects, unsigned int n) {
    struct stack *stack = pool->pool_data;

    pthread_mutex_lock(&stack->lock);
    for (unsigned int i = 0; i < n; i++) {
        if (stack->n >= pool->size)
            rte_panic("more buffers freed than there are in pool %s\n", pool->name);
        if (stack_hooks.returned != NULL)
            stack_hooks.returned(pool, objects[i]);
        stack->objects[stack->n++] = objects[i];
    }
    pthread_mutex_unlock(&stack->lock);
    return 0;
}

static int pop(struct rte_mempool *pool, void **objects, unsigned int n) {
    struct stack *stack = pool->pool_data;
    int ret = -ENOBUFS;

    pthread_mutex_lock(&stack->lock);
    if (stack->n >= n && (stack_hooks.may_take == NULL || stack_hooks.may_take(n))) {
        for (unsigned int i = 0; i < n; i++) {
            objects[i] = stack->objects[--stack->n];
            if (stack_hooks.taken != NULL)
                stack_hooks.taken(pool, objects[i]);
        }
        ret = 0;
    }
    pthread_mutex_unlock(&stack->lock);
    return ret;
}

static unsigned int count(const struct rte_mempool *pool) {
    return ((const struct stack *)pool->pool_data)->n;
}

static const struct rte_mempool_ops stack_ops = {
    .name = STACK_OPS,
    .alloc = stack_alloc,
    .free = stack_free,
    .enqueue = push,
    .dequeue = pop,
    .get_count = count,
};

RTE_MEMPOOL_REGISTER_OPS(stack_ops)
