/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See ext3.h. */
#include "ext3.h"

#include "blockmap.h"

#include <assert.h>
#include <e2p/e2p.h>
#include <ext2fs/ext2fs.h>
#include <string.h>

struct ext3 {
	ext2_filsys fs;
	uint32_t now;
};

static errcode_t ext3_last;

/* The library's codes are errno's small numbers or large ones of its own. */
static int ext3_result(errcode_t e)
{
	if (e == 0)
		return 0;
	switch (e) {
	case EXT2_ET_TOO_MANY_INODES: /* their tables alone do not fit */
	case EXT2_ET_TOOSMALL:
	case EXT2_ET_BLOCK_ALLOC_FAIL: return EXT3_E_NO_BLOCKS;
	case EXT2_ET_INODE_ALLOC_FAIL: return EXT3_E_NO_INODES;
	case EXT2_ET_EA_NO_SPACE: return EXT3_E_XATTR_SPACE;
	case EXT2_ET_NO_MEMORY: return -ENOMEM;
	case EXT2_ET_SHORT_WRITE: /* a regular file takes less only when its disk is full */
		return -ENOSPC;
	case EXT2_ET_BAD_MAGIC:
	case EXT2_ET_SHORT_READ: return EXT3_E_NOT_EXT;
	default: break;
	}
	if (e > 0 && e < 4096)
		return -(int)e;
	ext3_last = e;
	return EXT3_E_LIBRARY;
}

const char *ext3_strerror(int r)
{
	switch (r) {
	case EXT3_E_NO_BLOCKS: return "the file system is full";
	case EXT3_E_NO_INODES: return "the file system has no inode left";
	case EXT3_E_XATTR_SPACE:
		return "its extended attributes do not fit in one block of 4096 bytes";
	case EXT3_E_NOT_EXT: return "not an ext2, ext3 or ext4 file system";
	case EXT3_E_LIBRARY: initialize_ext2_error_table(); return error_message(ext3_last);
	default: return strerror(-r);
	}
}

void ext3_seed_from_uuid(const uint8_t uuid[static 16], uint8_t seed[static 16])
{
	static const char purpose[] = "nbdroot directory hash seed";
	unsigned char text[sizeof(purpose) + 16], digest[64];

	memcpy(text, purpose, sizeof(purpose));
	memcpy(text + sizeof(purpose), uuid, 16);
	ext2fs_sha512(text, sizeof(text), digest);
	memcpy(seed, digest, 16);
}

uint64_t ext3_blocks_free(const struct ext3 *fs)
{
	return ext2fs_free_blocks_count(fs->fs->super);
}

uint32_t ext3_journal_blocks(uint64_t blocks)
{
	int n = ext2fs_default_journal_size(blocks);

	return n < 0 ? 0 : (uint32_t)n;
}

/* ---- inodes ------------------------------------------------------------------------------ */

int ext3_new_inode(struct ext3 *fs, uint32_t parent, uint32_t mode, uint32_t *inode)
{
	ext2_ino_t found;
	int r = ext3_result(ext2fs_new_inode(fs->fs, parent, (int)mode, NULL, &found));

	if (r != 0)
		return r;
	ext2fs_inode_alloc_stats2(fs->fs, found, +1, LINUX_S_ISDIR(mode));
	*inode = found;
	return 0;
}

/* Nanoseconds, and the two bits that carry a time past 2038 (fs/ext4/ext4.h). */
static uint32_t ext3_time_extra(const struct ext3_attr *a)
{
	int64_t epochs = (a->mtime_s - (int32_t)a->mtime_s) >> 32;

	return a->mtime_ns << 2 | ((uint32_t)epochs & 3);
}

static void ext3_fill_inode(const struct ext3 *fs, struct ext2_inode_large *i,
			    const struct ext3_attr *a, uint64_t size)
{
	memset(i, 0, sizeof(*i));
	i->i_mode = (uint16_t)a->mode;
	i->i_uid = (uint16_t)a->uid;
	i->osd2.linux2.l_i_uid_high = (uint16_t)(a->uid >> 16);
	i->i_gid = (uint16_t)a->gid;
	i->osd2.linux2.l_i_gid_high = (uint16_t)(a->gid >> 16);
	i->i_links_count = (uint16_t)a->links;
	i->i_size = (uint32_t)size;
	i->i_size_high = (uint32_t)(size >> 32);
	i->i_extra_isize = sizeof(*i) - EXT2_GOOD_OLD_INODE_SIZE;
	i->i_atime = i->i_ctime = i->i_mtime = (uint32_t)a->mtime_s;
	i->i_atime_extra = i->i_ctime_extra = i->i_mtime_extra = ext3_time_extra(a);
	i->i_crtime = fs->now;
}

static int ext3_write_inode(struct ext3 *fs, uint32_t inode, struct ext2_inode_large *i)
{
	return ext3_result(
		ext2fs_write_inode_full(fs->fs, inode, (struct ext2_inode *)i, sizeof(*i)));
}

int ext3_special(struct ext3 *fs, uint32_t inode, const struct ext3_attr *a)
{
	struct ext2_inode_large i;
	uint32_t major = a->device_major, minor = a->device_minor;

	ext3_fill_inode(fs, &i, a, 0);
	if (LINUX_S_ISCHR(a->mode) || LINUX_S_ISBLK(a->mode)) {
		/* The kernel's old and new encodings, each in a place of its own. */
		if (major < 256 && minor < 256)
			i.i_block[0] = major << 8 | minor;
		else
			i.i_block[1] =
				(minor & 0xff) | major << 8 | (minor & ~UINT32_C(0xff)) << 12;
	}
	return ext3_write_inode(fs, inode, &i);
}

/* ---- content ----------------------------------------------------------------------------- */

struct ext3_file {
	struct ext3 *fs;
	uint32_t inode;
	blk64_t goal;
	struct blockmap map;
};

static int ext3_allocate_block(void *arg, uint32_t *block)
{
	struct ext3_file *f = arg;
	blk64_t found;
	int r = ext3_result(ext2fs_new_block2(f->fs->fs, f->goal, NULL, &found));

	if (r != 0)
		return r;
	ext2fs_block_alloc_stats2(f->fs->fs, found, +1);
	f->goal = found + 1;
	*block = (uint32_t)found;
	return 0;
}

static int ext3_write_numbers(void *arg, uint32_t block, const uint32_t *numbers)
{
	struct ext3_file *f = arg;

	return ext3_result(io_channel_write_blk64(f->fs->fs->io, block, 1, numbers));
}

int ext3_file_begin(struct ext3 *fs, uint32_t inode, struct ext3_file **out)
{
	struct ext3_file *f = calloc(1, sizeof(*f));

	if (!f)
		return -ENOMEM;
	f->fs = fs;
	f->inode = inode;
	f->goal = ext2fs_find_inode_goal(fs->fs, inode, NULL, 0);
	f->map.allocate = ext3_allocate_block;
	f->map.write = ext3_write_numbers;
	f->map.arg = f;
	*out = f;
	return 0;
}

void ext3_file_abandon(struct ext3_file *f)
{
	free(f);
}

int ext3_file_write(struct ext3_file *f, uint64_t first, const void *data, uint32_t count)
{
	const char *p = data;
	uint32_t run = 0, length = 0, block;
	int r;

	/* What came to lie side by side is written in one go. */
	for (uint32_t i = 0; i < count; i++) {
		r = blockmap_add(&f->map, first + i, &block);
		if (r != 0)
			return r;
		if (length > 0 && block == run + length) {
			length++;
			continue;
		}
		if (length > 0) {
			r = ext3_result(io_channel_write_blk64(f->fs->fs->io, run, (int)length, p));
			if (r != 0)
				return r;
			p += (size_t)length * EXT3_BLOCK;
		}
		run = block;
		length = 1;
	}
	if (length == 0)
		return 0;
	return ext3_result(io_channel_write_blk64(f->fs->fs->io, run, (int)length, p));
}

int ext3_file_end(struct ext3_file *f, const struct ext3_attr *a, uint64_t size)
{
	struct ext2_inode_large i;
	int r = blockmap_finish(&f->map);

	if (r == 0) {
		ext3_fill_inode(f->fs, &i, a, size);
		for (int n = 0; n < BLOCKMAP_TOP; n++)
			i.i_block[n] = f->map.top[n];
		ext2fs_iblk_set(f->fs->fs, (struct ext2_inode *)&i, f->map.used);
		r = ext3_write_inode(f->fs, f->inode, &i);
	}
	free(f);
	return r;
}

/* A file whose content is in memory, padded to whole blocks. */
static int ext3_whole_file(struct ext3 *fs, uint32_t inode, const struct ext3_attr *a,
			   const void *data, uint32_t blocks, uint64_t size)
{
	struct ext3_file *f;
	int r = ext3_file_begin(fs, inode, &f);

	if (r != 0)
		return r;
	r = ext3_file_write(f, 0, data, blocks);
	if (r != 0) {
		ext3_file_abandon(f);
		return r;
	}
	return ext3_file_end(f, a, size);
}

int ext3_symlink(struct ext3 *fs, uint32_t inode, const struct ext3_attr *a, const char *target)
{
	struct ext2_inode_large i;
	size_t length = strlen(target);
	char block[EXT3_BLOCK] = { 0 };

	if (length >= sizeof(block))
		return -ENAMETOOLONG;
	memcpy(block, target, length + 1);
	if (length >= EXT3_FAST_LINK)
		return ext3_whole_file(fs, inode, a, block, 1, length);
	ext3_fill_inode(fs, &i, a, length);
	memcpy(i.i_block, block, sizeof(i.i_block));
	return ext3_write_inode(fs, inode, &i);
}

/* ---- directories ------------------------------------------------------------------------- */

static uint32_t ext3_entry_size(size_t name_length)
{
	return (uint32_t)(8 + name_length + 3) & ~UINT32_C(3);
}

uint32_t ext3_layout_add(struct ext3_layout *l, size_t name_length)
{
	uint32_t size = ext3_entry_size(name_length), offset;

	if (l->blocks == 0 || l->used + size > EXT3_BLOCK) {
		l->blocks++;
		l->used = 0;
	}
	offset = l->used;
	l->used += size;
	return offset;
}

static uint8_t ext3_file_type(uint32_t mode)
{
	switch (mode & LINUX_S_IFMT) {
	case LINUX_S_IFREG: return EXT2_FT_REG_FILE;
	case LINUX_S_IFDIR: return EXT2_FT_DIR;
	case LINUX_S_IFCHR: return EXT2_FT_CHRDEV;
	case LINUX_S_IFBLK: return EXT2_FT_BLKDEV;
	case LINUX_S_IFIFO: return EXT2_FT_FIFO;
	case LINUX_S_IFSOCK: return EXT2_FT_SOCK;
	case LINUX_S_IFLNK: return EXT2_FT_SYMLINK;
	default: return EXT2_FT_UNKNOWN;
	}
}

/* Puts one entry; the one before it in the block ends where this one starts. */
static void ext3_put_entry(char *blocks, struct ext3_layout *l, uint32_t *last, const char *name,
			   uint32_t inode, uint8_t type)
{
	size_t length = strlen(name);
	uint32_t offset = ext3_layout_add(l, length);
	uint32_t start = (l->blocks - 1) * EXT3_BLOCK + offset;
	struct ext2_dir_entry_2 *e = (struct ext2_dir_entry_2 *)(void *)(blocks + start);

	if (offset > 0)
		((struct ext2_dir_entry_2 *)(void *)(blocks + *last))->rec_len =
			(uint16_t)(start - *last);
	e->inode = inode;
	e->rec_len = (uint16_t)(EXT3_BLOCK - offset); /* unless another follows */
	e->name_len = (uint8_t)length;
	e->file_type = type;
	memcpy(e->name, name, length);
	*last = start;
}

int ext3_directory(struct ext3 *fs, uint32_t inode, uint32_t parent, const struct ext3_attr *a,
		   const struct ext3_entry *entries, size_t n, uint32_t min_blocks)
{
	struct ext3_layout size = { 0 }, at = { 0 };
	uint32_t blocks, last = 0;
	_cleanup_free_ char *data = NULL;

	ext3_layout_add(&size, 1);
	ext3_layout_add(&size, 2);
	for (size_t i = 0; i < n; i++)
		ext3_layout_add(&size, strlen(entries[i].name));
	blocks = size.blocks > min_blocks ? size.blocks : min_blocks;
	data = calloc(blocks, EXT3_BLOCK);
	if (!data)
		return -ENOMEM;

	ext3_put_entry(data, &at, &last, ".", inode, EXT2_FT_DIR);
	ext3_put_entry(data, &at, &last, "..", parent, EXT2_FT_DIR);
	for (size_t i = 0; i < n; i++)
		ext3_put_entry(data, &at, &last, entries[i].name, entries[i].inode,
			       ext3_file_type(entries[i].mode));
	for (uint32_t b = size.blocks; b < blocks; b++)
		((struct ext2_dir_entry_2 *)(void *)(data + (size_t)b * EXT3_BLOCK))->rec_len =
			EXT3_BLOCK;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	for (uint32_t b = 0; b < blocks; b++)
		ext2fs_dirent_swab_out2(fs->fs, data + (size_t)b * EXT3_BLOCK, 0);
#endif
	return ext3_whole_file(fs, inode, a, data, blocks, (uint64_t)blocks * EXT3_BLOCK);
}

/* ---- extended attributes ----------------------------------------------------------------- */

bool ext3_xattr_is_known(const char *name)
{
	return strncmp(name, "user.", 5) == 0 || strncmp(name, "trusted.", 8) == 0 ||
	       strncmp(name, "security.", 9) == 0 || strcmp(name, "system.posix_acl_access") == 0 ||
	       strcmp(name, "system.posix_acl_default") == 0;
}

int ext3_set_xattrs(struct ext3 *fs, uint32_t inode, const struct ext3_xattr *x, size_t n)
{
	struct ext2_xattr_handle *h;
	errcode_t e;

	if (n == 0)
		return 0;
	e = ext2fs_xattrs_open(fs->fs, inode, &h);
	if (e)
		return ext3_result(e);
	e = ext2fs_xattrs_read(h);
	/* The library turns the ACLs of getxattr(2) into those of the disk by itself. */
	for (size_t i = 0; i < n && !e; i++)
		e = ext2fs_xattr_set(h, x[i].name, x[i].value, x[i].size);
	ext2fs_xattrs_close(&h);
	return ext3_result(e);
}

/* ---- the whole file system --------------------------------------------------------------- */

/*
 * As ext2fs_add_journal_inode() does, but the blocks stay holes of the image: the kernel never
 * reads a journal block that it has not written, when the journal's superblock says it is empty.
 */
static int ext3_add_journal(struct ext3 *fs)
{
	struct ext2_super_block *super = fs->fs->super;
	uint32_t blocks = ext3_journal_blocks(ext2fs_blocks_count(super)), first = 0, block;
	struct ext3_attr a = { .mode = LINUX_S_IFREG | 0600, .links = 1, .mtime_s = fs->now };
	uint64_t size = (uint64_t)blocks * EXT3_BLOCK;
	struct ext3_file *f;
	char *head = NULL;
	int r;

	r = ext3_result(ext2fs_create_journal_superblock(fs->fs, blocks, 0, &head));
	if (r != 0)
		return r;
	r = ext3_file_begin(fs, EXT2_JOURNAL_INO, &f);
	if (r != 0)
		goto out;
	/* In the middle, near most of what it is about. */
	f->goal = ext2fs_group_first_block2(fs->fs, fs->fs->group_desc_count / 2);
	for (uint32_t i = 0; i < blocks && r == 0; i++) {
		r = blockmap_add(&f->map, i, &block);
		if (i == 0)
			first = block;
	}
	if (r == 0)
		r = ext3_result(io_channel_write_blk64(fs->fs->io, first, 1, head));
	if (r != 0) {
		ext3_file_abandon(f);
		goto out;
	}
	memcpy(super->s_jnl_blocks, f->map.top, sizeof(f->map.top)); /* complete but for */
	r = ext3_file_end(f, &a, size);                              /* what this writes */
	super->s_jnl_blocks[15] = (uint32_t)(size >> 32);
	super->s_jnl_blocks[16] = (uint32_t)size;
	super->s_jnl_backup_type = EXT3_JNL_BACKUP_BLOCKS;
	super->s_journal_inum = EXT2_JOURNAL_INO;
	ext2fs_set_feature_journal(super);
	ext2fs_mark_super_dirty(fs->fs);
out:
	ext2fs_free_mem(&head);
	return r;
}

static void ext3_fill_param(struct ext2_super_block *p, const struct ext3_format *f)
{
	uint64_t inodes = f->blocks / 4; /* one for 16 KiB */

	memset(p, 0, sizeof(*p));
	p->s_rev_level = EXT2_DYNAMIC_REV;
	p->s_log_block_size = 2;
	p->s_inode_size = 256;
	ext2fs_blocks_count_set(p, f->blocks);
	ext2fs_r_blocks_count_set(p, f->blocks / 100);
	if (inodes < (uint64_t)f->inodes + EXT2_GOOD_OLD_FIRST_INO)
		inodes = (uint64_t)f->inodes + EXT2_GOOD_OLD_FIRST_INO;
	p->s_inodes_count = inodes > UINT32_MAX ? UINT32_MAX : (uint32_t)inodes;
	p->s_default_mount_opts = EXT2_DEFM_XATTR_USER | EXT2_DEFM_ACL;
	ext2fs_set_feature_xattr(p);
	ext2fs_set_feature_resize_inode(p);
	ext2fs_set_feature_dir_index(p);
	ext2fs_set_feature_filetype(p);
	ext2fs_set_feature_sparse_super(p);
	ext2fs_set_feature_large_file(p);
}

static void ext3_fill_super(struct ext3 *fs, const struct ext3_format *f)
{
	struct ext2_super_block *super = fs->fs->super;

	fs->fs->now = fs->now = f->now;
	super->s_mkfs_time = super->s_lastcheck = f->now;
	super->s_max_mnt_count = -1; /* never checked for its age alone */
	super->s_def_hash_version = EXT2_HASH_HALF_MD4;
	/* Decided here, not by the signedness of this machine's char. */
	super->s_flags = EXT2_FLAGS_SIGNED_HASH;
	memcpy(super->s_uuid, f->uuid, sizeof(super->s_uuid));
	memcpy(super->s_hash_seed, f->hash_seed, sizeof(super->s_hash_seed));
	memcpy(super->s_volume_name, f->label, strnlen(f->label, sizeof(super->s_volume_name)));
}

int ext3_create(const char *path, const struct ext3_format *f, struct ext3 **out)
{
	struct ext2_super_block param;
	struct ext3 *fs = calloc(1, sizeof(*fs));
	int r;

	assert(f->blocks >= EXT3_MIN_BLOCKS && f->blocks <= UINT32_MAX && f->now != 0);
	if (!fs)
		return -ENOMEM;
	ext3_fill_param(&param, f);
	r = ext3_result(
		ext2fs_initialize(path, EXT2_FLAG_64BITS, &param, unix_io_manager, &fs->fs));
	if (r != 0) {
		free(fs);
		return r;
	}
	ext3_fill_super(fs, f);
	/* The inode tables stay holes: that reads as zeros, which is what they must be. */
	r = ext3_result(ext2fs_allocate_tables(fs->fs));
	if (r == 0) {
		for (ext2_ino_t i = 1; i < EXT2_FIRST_INODE(fs->fs->super); i++)
			ext2fs_inode_alloc_stats2(fs->fs, i, +1, i == EXT2_ROOT_INO);
		r = ext3_result(ext2fs_update_bb_inode(fs->fs, NULL));
	}
	if (r == 0)
		r = ext3_result(ext2fs_create_resize_inode(fs->fs));
	if (r == 0)
		r = ext3_add_journal(fs);
	if (r != 0) {
		ext3_abandon(fs);
		return r;
	}
	*out = fs;
	return 0;
}

int ext3_close(struct ext3 *fs)
{
	int r = ext3_result(ext2fs_close2(fs->fs, EXT2_FLAG_FLUSH_NO_SYNC));

	if (r != 0)
		ext2fs_free(fs->fs);
	free(fs);
	return r;
}

void ext3_abandon(struct ext3 *fs)
{
	if (!fs)
		return;
	ext2fs_free(fs->fs);
	free(fs);
}

/* ---- reading ----------------------------------------------------------------------------- */

static void ext3_add_features(struct ext3_info *info, int set, uint32_t mask)
{
	size_t used = strlen(info->features);

	for (uint32_t bit = 1; bit != 0; bit <<= 1) {
		const char *name;
		size_t length;

		if (!(mask & bit))
			continue;
		name = e2p_feature2string(set, bit);
		length = strlen(name);
		if (used + length + 2 > sizeof(info->features))
			return;
		if (used > 0)
			info->features[used++] = ' ';
		memcpy(info->features + used, name, length + 1);
		used += length;
	}
}

int ext3_probe(const char *path, struct ext3_info *info)
{
	const struct ext2_super_block *s;
	ext2_filsys fs;
	int r;

	/* By force: unknown features do not matter to one who only looks at the superblock. */
	r = ext3_result(ext2fs_open2(path, NULL,
				     EXT2_FLAG_64BITS | EXT2_FLAG_FORCE | EXT2_FLAG_SUPER_ONLY, 0,
				     0, unix_io_manager, &fs));
	if (r != 0)
		return r;
	s = fs->super;
	*info = (struct ext3_info){
		.blocks = ext2fs_blocks_count(fs->super),
		.blocks_free = ext2fs_free_blocks_count(fs->super),
		.blocks_reserved = ext2fs_r_blocks_count(fs->super),
		.block_size = fs->blocksize,
		.inodes = s->s_inodes_count,
		.inodes_free = s->s_free_inodes_count,
		.inode_size = EXT2_INODE_SIZE(s),
		.mounts = s->s_mnt_count,
		.has_journal = ext2fs_has_feature_journal(fs->super),
		.has_extents = ext2fs_has_feature_extents(fs->super),
		.needs_recovery = ext2fs_has_feature_journal_needs_recovery(fs->super),
		.has_errors = (s->s_state & EXT2_ERROR_FS) != 0,
		.was_unmounted = (s->s_state & EXT2_VALID_FS) != 0,
		.created = s->s_mkfs_time | (int64_t)s->s_mkfs_time_hi << 32,
		.checked = s->s_lastcheck | (int64_t)s->s_lastcheck_hi << 32,
		.mounted = s->s_mtime | (int64_t)s->s_mtime_hi << 32,
		.written = s->s_wtime | (int64_t)s->s_wtime_hi << 32,
	};
	memcpy(info->uuid, s->s_uuid, sizeof(info->uuid));
	memcpy(info->label, s->s_volume_name, sizeof(s->s_volume_name));
	memcpy(info->last_mounted, s->s_last_mounted, sizeof(s->s_last_mounted));
	ext3_add_features(info, E2P_FEATURE_COMPAT, s->s_feature_compat);
	ext3_add_features(info, E2P_FEATURE_INCOMPAT, s->s_feature_incompat);
	ext3_add_features(info, E2P_FEATURE_RO_INCOMPAT, s->s_feature_ro_compat);
	ext2fs_free(fs);
	return 0;
}

bool ext3_is_mounted(const char *path)
{
	int flags = 0;

	return ext2fs_check_if_mounted(path, &flags) == 0 &&
	       (flags & (EXT2_MF_MOUNTED | EXT2_MF_BUSY)) != 0;
}
