//! Loop devices: an image file seen as a disk. Every device is set up with autoclear, so the kernel
//! frees it with the last user and no crash of ours can leave one behind.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4c82;
const LOOP_CONFIGURE: libc::c_ulong = 0x4c0a;
const LOOP_CLR_FD: libc::c_ulong = 0x4c01;
const AUTOCLEAR: u32 = 4;
const DIRECT_IO: u32 = 16;
/// Others may take a free device between our asking and our taking it.
const ATTEMPTS: usize = 64;

/// `struct loop_info64` of the kernel.
#[repr(C)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config` of the kernel.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

const _: () = assert!(
    size_of::<Info>() == 232 && size_of::<Config>() == 304,
    "kernel layout"
);

/// A loop device. The kernel frees it when this is dropped, unless it is mounted by then.
pub(crate) struct LoopDevice {
    pub(crate) path: PathBuf,
    _file: File,
}

/// Makes `image` a block device, with direct I/O where the image's file system has it, so that data
/// is not cached twice. The kernel then takes the disk's block size from the file's open mode.
pub(crate) fn attach(image: &Path) -> io::Result<LoopDevice> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    let direct = options.clone().custom_flags(libc::O_DIRECT).open(image);
    let backing = direct.or_else(|_| options.open(image))?;
    let control = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/loop-control")?;
    let mut last = io::Error::other("no free loop device");
    for _ in 0..ATTEMPTS {
        // SAFETY: this request takes no argument.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        match configure(&file, &backing, image) {
            Ok(()) => return Ok(LoopDevice { path, _file: file }),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

fn configure(device: &File, backing: &File, image: &Path) -> io::Result<()> {
    // SAFETY: both structures consist of integers only, for which zero is a value.
    let mut config: Config = unsafe { std::mem::zeroed() };
    config.fd = u32::try_from(backing.as_raw_fd()).map_err(io::Error::other)?;
    config.info.flags = AUTOCLEAR | DIRECT_IO;
    let name = image.as_os_str().as_encoded_bytes();
    let length = name.len().min(config.info.file_name.len() - 1);
    config.info.file_name[..length].copy_from_slice(&name[..length]);
    // SAFETY: the structure has the kernel's layout (asserted above) and outlives the call.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// The devices which `image` is attached to.
pub(crate) fn attached(image: &Path) -> Vec<PathBuf> {
    let Ok(blocks) = fs::read_dir("/sys/block") else {
        return Vec::new();
    };
    let has_image = |name: &str| {
        let backing = fs::read_to_string(format!("/sys/block/{name}/loop/backing_file"));
        backing.is_ok_and(|path| Path::new(path.trim_end_matches('\n')) == image)
    };
    let names = blocks
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| has_image(name))
        .map(|name| Path::new("/dev").join(name))
        .collect()
}

/// Frees a device; if it is in use, at the moment its last user leaves.
pub(crate) fn detach(device: &Path) -> io::Result<()> {
    let file = File::open(device)?;
    // SAFETY: this request takes no argument.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), LOOP_CLR_FD) };
    match io::Error::last_os_error() {
        _ if result == 0 => Ok(()),
        error if error.raw_os_error() == Some(libc::ENXIO) => Ok(()),
        error => Err(error),
    }
}
