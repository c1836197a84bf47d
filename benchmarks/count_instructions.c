/* Counts the instructions that an emulated program runs, and says how many at each call of getppid().

   A plugin of qemu's user mode (QEMU's plugin interface, version 1; declared here, because Debian ships no header).
   benchmarks/instructions.py builds and uses it.  cc -shared -fPIC -O2 -o count.so count_instructions.c */

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { GETPPID = 173, ADD_U64 = 0 };    /* of aarch64 Linux; of QEMU's inline operations */

struct tb;
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, void (*translated)(uint64_t, struct tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct tb *tb, int operation, void *counter, uint64_t amount);
void qemu_plugin_register_vcpu_syscall_cb(uint64_t id, void (*called)(uint64_t, unsigned int, int64_t, uint64_t,
    uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t));
size_t qemu_plugin_tb_n_insns(const struct tb *tb);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

static uint64_t counted;

static void translated(uint64_t id, struct tb *tb)
{
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_inline(tb, ADD_U64, &counted, qemu_plugin_tb_n_insns(tb));
}

static void called(uint64_t id, unsigned int cpu, int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
    uint64_t e, uint64_t f, uint64_t g, uint64_t h)
{
    (void)id; (void)cpu; (void)a; (void)b; (void)c; (void)d; (void)e; (void)f; (void)g; (void)h;
    if (number == GETPPID)
        fprintf(stderr, "counted %llu\n", (unsigned long long)counted);
}

__attribute__((visibility("default"))) int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv)
{
    (void)info; (void)argc; (void)argv;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    return 0;
}
