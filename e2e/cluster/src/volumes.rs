//! Opens the volumes of the host-path provisioner to every user: it makes them with mode 0750 for root, and pods are not root.

use std::fs::{self, Permissions};
use std::mem::MaybeUninit;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

/// Where the controller manager's host-path provisioner makes volumes; the name is fixed in its source.
pub const DIRECTORY: &str = "/tmp/hostpath_pv";

/// Watches `directory` and gives every new entry mode 0777, for ever. The pod that gets the volume starts much later: the volume is
/// made before it is bound, and the pod is scheduled after that.
pub fn open_to_all(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    fs::set_permissions(directory, Permissions::from_mode(0o777))?;
    let watch = inotify::init(CreateFlags::CLOEXEC)?;
    inotify::add_watch(&watch, directory, WatchFlags::CREATE | WatchFlags::MOVED_TO)?;
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut events = Reader::new(&watch, &mut buffer);
    loop {
        let event = events.next()?;
        if event.events().intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO)
            && let Some(name) = event.file_name()
        {
            let path = directory.join(name.to_string_lossy().as_ref());
            // It may be gone again already; nothing is lost then.
            let _ = fs::set_permissions(path, Permissions::from_mode(0o777));
        }
    }
}
