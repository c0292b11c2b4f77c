//! Read-only mappings of sealed files: the one place of this crate that needs `unsafe`.

#![expect(unsafe_code, reason = "mapping a file is unsafe, because whoever changes the file changes the memory")]

use std::fs::File;
use std::io;

use bytes::Bytes;
use memmap2::MmapOptions;

/// Maps the first `len` bytes of a file that nobody changes any more.
///
/// # Errors
/// The file is shorter, or the system refuses the mapping.
pub(crate) fn map(file: &File, len: usize) -> io::Result<Bytes> {
    if file.metadata()?.len() < len as u64 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if len == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: only sealed files are mapped. They have mode 0444, this process never writes to the mapped range or truncates
    // them, and the directory lock keeps other instances out. The length was compared just above; a read past the end of a
    // file that someone else shortens would be SIGBUS, which is a crash and not undefined behaviour.
    let map = unsafe { MmapOptions::new().len(len).map(file)? };
    Ok(Bytes::from_owner(map))
}
