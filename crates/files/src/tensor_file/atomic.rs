//! Files that are written whole or not at all.

use std::io::Write;
use std::path::Path;

/// Writes a file whole or not at all. What is no regular file (a pipe, a device) is written to as it is.
///
/// # Errors
/// Those of the operating system.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if target.exists() && !target.is_file() {
        return std::fs::OpenOptions::new().write(true).open(&target)?.write_all(bytes);
    }
    let mut temporary = temporary_beside(&target)?;
    temporary.write_all(bytes)?;
    temporary.persist(&target)?;
    Ok(())
}

/// Whether [`write_atomically`] could write a file, before there is anything to write. Nothing is left behind.
///
/// # Errors
/// Those of the operating system.
///
/// # Examples
/// ```
/// use sus_files::tensor_file::expect_writable;
/// let folder = tempfile::tempdir()?;
/// expect_writable(&folder.path().join("report.txt"))?;
/// assert_eq!(std::fs::read_dir(folder.path())?.count(), 0);
/// assert!(expect_writable(&folder.path().join("nowhere").join("report.txt")).is_err());
/// assert!(expect_writable(folder.path()).is_err()); // a folder
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn expect_writable(path: &Path) -> std::io::Result<()> {
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if target.is_dir() {
        return Err(std::io::ErrorKind::IsADirectory.into());
    }
    // A pipe or a device is not opened twice: who reads it would see an end.
    if !target.exists() || target.is_file() {
        temporary_beside(&target)?;
    }
    Ok(())
}

/// A file that goes away unless it takes the place of another one in its folder.
fn temporary_beside(target: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let folder = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // Without this, the error would name the temporary file.
    std::fs::metadata(folder)?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".sus-oracle-");
    #[cfg(unix)]
    let builder = builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}
