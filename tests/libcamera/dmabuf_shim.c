/*
 * LD_PRELOAD: memfds in place of dma-bufs, for kernels that have neither /dev/dma_heap nor /dev/udmabuf.
 *
 * picamera2 and libcamera take their buffers from a kernel device through ioctls. A memfd is what both need of it:
 * a file descriptor that can be mapped and handed on. Whatever the real kernel answers goes through untouched.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/dma-buf.h>
#include <linux/dma-heap.h>

static const char HEAP[] = "/dev/dma_heap/linux,cma";

typedef int (*open_function)(const char *, int, ...);
typedef int (*ioctl_function)(int, unsigned long, ...);

static int open_or_stand_in(const char *symbol, const char *path, int flags, mode_t mode)
{
	open_function real = (open_function)dlsym(RTLD_NEXT, symbol);
	int fd = real(path, flags, mode);
	if (fd < 0 && path && strcmp(path, HEAP) == 0)
		return memfd_create("dma_heap", MFD_CLOEXEC);
	return fd;
}

static mode_t mode_argument(int flags, va_list arguments)
{
	return flags & (O_CREAT | __O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
}

int open(const char *path, int flags, ...)
{
	va_list arguments;
	va_start(arguments, flags);
	mode_t mode = mode_argument(flags, arguments);
	va_end(arguments);
	return open_or_stand_in("open", path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
	va_list arguments;
	va_start(arguments, flags);
	mode_t mode = mode_argument(flags, arguments);
	va_end(arguments);
	return open_or_stand_in("open64", path, flags, mode);
}

static int allocate(struct dma_heap_allocation_data *wanted)
{
	int fd = memfd_create("dma_buf", MFD_CLOEXEC);
	if (fd < 0)
		return -1;
	if (ftruncate(fd, wanted->len) < 0) {
		close(fd);
		return -1;
	}
	wanted->fd = fd;
	return 0;
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list arguments;
	va_start(arguments, request);
	void *argument = va_arg(arguments, void *);
	va_end(arguments);

	ioctl_function real = (ioctl_function)dlsym(RTLD_NEXT, "ioctl");
	int answer = real(fd, request, argument);
	if (answer >= 0)
		return answer;

	/* Python passes the number sign-extended. */
	switch ((uint32_t)request) {
	case (uint32_t)DMA_HEAP_IOCTL_ALLOC:
		return allocate(argument);
	case (uint32_t)DMA_BUF_IOCTL_SYNC:
	case (uint32_t)DMA_BUF_SET_NAME_A:
	case (uint32_t)DMA_BUF_SET_NAME_B:
		/* One coherent memory, and a name is for debugging only. */
		errno = 0;
		return 0;
	default:
		return answer;
	}
}
