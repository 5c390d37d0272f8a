//! What the host program needs of Windows and no safe crate offers. It was never run there.

use std::ffi::{OsStr, c_void};
use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use tokio::net::windows::named_pipe::{NamedPipeServer, PipeMode, ServerOptions};
use windows_sys::Win32::Foundation::{HANDLE, LocalFree, STILL_ACTIVE};
use windows_sys::Win32::Security::Authorization::{
    ConvertStringSecurityDescriptorToSecurityDescriptorW, SDDL_REVISION_1,
};
use windows_sys::Win32::Security::SECURITY_ATTRIBUTES;
use windows_sys::Win32::System::JobObjects::{
    AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE,
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION, JobObjectExtendedLimitInformation, SetInformationJobObject,
};
use windows_sys::Win32::System::SystemInformation::{GlobalMemoryStatusEx, MEMORYSTATUSEX};
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, GetExitCodeProcess, OpenProcess, PROCESS_QUERY_LIMITED_INFORMATION, PROCESS_TERMINATE,
    TerminateProcess,
};

/// Everything for the owner and the system, nothing for anybody else. A pipe's default lets everybody read.
const OWNER_ONLY: &str = "D:P(A;;GA;;;OW)(A;;GA;;;SY)\0";

/// One more end of a pipe for this host's owner alone, in message mode: a message of no bytes is the half close that a pipe
/// has no other word for, as docker's clients know it.
///
/// # Errors
/// Access denied where `first` is asked for and another program has a pipe of this name.
pub fn owner_pipe(name: &OsStr, first: bool) -> io::Result<NamedPipeServer> {
    let mut descriptor: *mut c_void = std::ptr::null_mut();
    let text: Vec<u16> = OWNER_ONLY.encode_utf16().collect();
    // SAFETY: the text ends with a NUL, and the call writes one pointer, whose memory LocalFree below gives back.
    let made = unsafe {
        ConvertStringSecurityDescriptorToSecurityDescriptorW(
            text.as_ptr(),
            SDDL_REVISION_1,
            &raw mut descriptor,
            std::ptr::null_mut(),
        )
    };
    if made == 0 {
        return Err(io::Error::last_os_error());
    }
    let mut attributes = SECURITY_ATTRIBUTES {
        nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
        lpSecurityDescriptor: descriptor,
        bInheritHandle: 0,
    };
    let mut options = ServerOptions::new();
    options.first_pipe_instance(first).reject_remote_clients(true).pipe_mode(PipeMode::Message);
    // SAFETY: the attributes and their descriptor are valid until the call returns; CreateNamedPipeW copies them.
    let pipe = unsafe { options.create_with_security_attributes_raw(name, (&raw mut attributes).cast()) };
    // SAFETY: the descriptor was allocated above and nobody uses it any more.
    unsafe { LocalFree(descriptor) };
    pipe
}

/// Puts this process, and with it every process that it starts, into a job that is killed when this process ends: the
/// job's only handle ends with it.
///
/// # Errors
/// Where a job that this process is in allows none inside.
pub fn children_die_with_this() -> io::Result<()> {
    // SAFETY: no attributes and no name are asked for.
    let job = owned(unsafe { CreateJobObjectW(std::ptr::null(), std::ptr::null()) })?;
    let mut limits = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
    limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
    // SAFETY: the job is open, and the information is of the class and the size that are named.
    let set = unsafe {
        SetInformationJobObject(
            job.as_raw_handle(),
            JobObjectExtendedLimitInformation,
            (&raw const limits).cast(),
            size_of::<JOBOBJECT_EXTENDED_LIMIT_INFORMATION>() as u32,
        )
    };
    done(set)?;
    // SAFETY: both handles are open.
    done(unsafe { AssignProcessToJobObject(job.as_raw_handle(), GetCurrentProcess()) })?;
    // Left open on purpose: closing it would kill this process.
    std::mem::forget(job);
    Ok(())
}

/// Whether a process with this number runs.
#[must_use]
pub fn process_lives(pid: u32) -> bool {
    let mut code = 0;
    // SAFETY: no inheritance is asked for; the result is checked.
    let opened = owned(unsafe { OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, 0, pid) });
    // SAFETY: the handle is open, and the call writes one number.
    opened.is_ok_and(|process| unsafe { GetExitCodeProcess(process.as_raw_handle(), &raw mut code) } != 0)
        && code == STILL_ACTIVE as u32
}

/// Ends a process.
///
/// # Errors
/// Where there is none with this number, or it is somebody else's.
pub fn kill_process(pid: u32) -> io::Result<()> {
    // SAFETY: no inheritance is asked for; the result is checked.
    let process = owned(unsafe { OpenProcess(PROCESS_TERMINATE, 0, pid) })?;
    // SAFETY: the handle is open.
    done(unsafe { TerminateProcess(process.as_raw_handle(), 1) })
}

/// This host's memory, in bytes.
///
/// # Errors
/// None is known.
pub fn memory() -> io::Result<u64> {
    let mut status = MEMORYSTATUSEX { dwLength: size_of::<MEMORYSTATUSEX>() as u32, ..Default::default() };
    // SAFETY: the structure tells its own size, as the call demands.
    done(unsafe { GlobalMemoryStatusEx(&raw mut status) })?;
    Ok(status.ullTotalPhys)
}

fn owned(handle: HANDLE) -> io::Result<OwnedHandle> {
    match handle.is_null() {
        true => Err(io::Error::last_os_error()),
        // SAFETY: the handle was opened by the call whose result it is, and nobody else has it.
        false => Ok(unsafe { OwnedHandle::from_raw_handle(handle) }),
    }
}

fn done(result: i32) -> io::Result<()> {
    if result == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
