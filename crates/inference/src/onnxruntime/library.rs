//! Finds ONNX Runtime's shared library and loads it, once in a process. Knows nothing of models.

use std::env::consts::{ARCH, OS};
use std::error::Error;
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ort::environment::Environment;
use ort::logging::LogLevel;
use parking_lot::Mutex;

use super::EngineError;

/// The library that this process runs ONNX models with.
#[derive(Clone, Debug, PartialEq)]
pub struct LibraryInfo {
    pub path: PathBuf,
    /// Its own version, such as 1.30.0.
    pub version: String,
}

pub(super) struct Engine {
    pub environment: Environment,
    info: LibraryInfo,
}

static ENGINE: OnceLock<Engine> = OnceLock::new();
static LOADING: Mutex<()> = Mutex::new(());

/// Where `npm ci` in `engines/` puts the libraries; below it `napi-v6/linux/x64/libonnxruntime.so.1` and the like.
const PACKAGE: &str = "engines/node_modules/onnxruntime-node/bin";

/// Loads the library unless it is loaded. It is looked for at `path`, else at the environment variable
/// `ORT_DYLIB_PATH`, else beside the executable and in `engines/node_modules` of the folders above the executable and
/// above the current directory. After an error it may be tried again, with another path.
pub fn open_library(path: Option<&Path>) -> Result<LibraryInfo, EngineError> {
    engine(path).map(|engine| engine.info.clone())
}

pub(super) fn engine(path: Option<&Path>) -> Result<&'static Engine, EngineError> {
    let _one_at_a_time = LOADING.lock();
    if let Some(engine) = ENGINE.get() {
        return match path {
            Some(wanted) if !same_file(wanted, &engine.info.path) => {
                Err(EngineError::OtherLibrary { loaded: engine.info.path.clone(), wanted: wanted.to_path_buf() })
            }
            _ => Ok(engine),
        };
    }
    let path = match path {
        Some(path) => path.to_path_buf(),
        None => find()?,
    };
    let engine = load(&path).map_err(|why| EngineError::BrokenLibrary { path, why })?;
    Ok(ENGINE.get_or_init(|| engine))
}

fn same_file(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

fn find() -> Result<PathBuf, EngineError> {
    if let Some(named) = std::env::var_os("ORT_DYLIB_PATH").filter(|value| !value.is_empty()) {
        return Ok(PathBuf::from(named));
    }
    let executable = std::env::current_exe().ok().and_then(|file| file.parent().map(Path::to_path_buf));
    let current = std::env::current_dir().ok();
    find_from(executable.as_deref(), current.as_deref())
}

fn find_from(executable: Option<&Path>, current: Option<&Path>) -> Result<PathBuf, EngineError> {
    if let Some(library) = executable.and_then(library_in) {
        return Ok(library);
    }
    for start in [executable, current].into_iter().flatten() {
        if let Some(library) = start.ancestors().find_map(|folder| packaged(&folder.join(PACKAGE))) {
            return Ok(library);
        }
    }
    let beside = executable.map(|folder| format!("beside the program in {}, ", folder.display()));
    let above: Vec<_> =
        [executable, current].into_iter().flatten().map(|folder| folder.display().to_string()).collect();
    Err(EngineError::NoLibrary {
        looked: format!("{}in {PACKAGE} of {} and above", beside.unwrap_or_default(), above.join(", ")),
    })
}

/// In the npm package's folder: the newest binary interface's library for this machine.
fn packaged(bin: &Path) -> Option<PathBuf> {
    let system = match OS {
        "macos" => "darwin",
        "windows" => "win32",
        other => other,
    };
    let machine = match ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    };
    let mut interfaces: Vec<(u32, PathBuf)> = std::fs::read_dir(bin)
        .ok()?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let number = entry.file_name().to_str()?.strip_prefix("napi-v")?.parse().ok()?;
            Some((number, entry.path()))
        })
        .collect();
    interfaces.sort();
    interfaces.iter().rev().find_map(|(_, folder)| library_in(&folder.join(system).join(machine)))
}

/// ONNX Runtime's library among a folder's files, whatever version its name carries.
fn library_in(folder: &Path) -> Option<PathBuf> {
    let is_library = |name: &str| match OS {
        "windows" => name == "onnxruntime.dll",
        "macos" => name.starts_with("libonnxruntime.") && name.ends_with(".dylib"),
        _ => name == "libonnxruntime.so" || name.starts_with("libonnxruntime.so."),
    };
    let files = std::fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    files.filter(|file| file.file_name().and_then(|name| name.to_str()).is_some_and(is_library)).min()
}

/// Bytes of a program header in a 64-bit ELF file.
const PROGRAM_HEADER: usize = 56;

fn load(path: &Path) -> Result<Engine, String> {
    check_whole(path).map_err(|error| error.to_string())?;
    let version = probe(path)?;
    // `ort` asserts what the probe has seen to; should it assert more, that is an error like the others.
    let environment = catch_unwind(AssertUnwindSafe(|| {
        let builder = ort::init_from(path).map_err(|error| error.to_string())?;
        builder.with_name("homeostat").with_telemetry(false).build().map_err(|error| error.to_string())
    }))
    .unwrap_or_else(|_| Err("it does not start".to_owned()))?;
    if std::env::var_os("ORT_LOG").is_none() {
        // Each failing request would write a line; the error reaches the caller anyway.
        environment.set_log_level(LogLevel::Fatal);
    }
    Ok(Engine { environment, info: LibraryInfo { path: path.to_path_buf(), version } })
}

/// Refuses an ELF file that is shorter than its headers say: Linux's loader maps it all the same, and the process dies
/// on the first missing page. Field places are those of 64-bit ELF; other formats are left to their loaders.
fn check_whole(path: &Path) -> io::Result<()> {
    let mut file = File::open(path)?;
    if !cfg!(target_os = "linux") {
        return Ok(());
    }
    let length = file.metadata()?.len();
    let mut header = [0; 64];
    let damaged = |what: &str| Err(io::Error::new(io::ErrorKind::InvalidData, what));
    if file.read_exact(&mut header).is_err() || header[..6] != *b"\x7fELF\x02\x01" {
        return damaged("it is no shared library of this system");
    }
    let number = |bytes: &[u8], at: usize, size: usize| {
        bytes[at..at + size].iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte))
    };
    let machine = number(&header, 18, 2);
    if (ARCH == "x86_64" && machine != 62) || (ARCH == "aarch64" && machine != 183) {
        return damaged("it is made for another processor");
    }
    let [programs_at, program_size, programs] =
        [number(&header, 32, 8), number(&header, 54, 2), number(&header, 56, 2)];
    file.seek(SeekFrom::Start(programs_at))?;
    let mut table = vec![0; PROGRAM_HEADER * programs as usize];
    if program_size != PROGRAM_HEADER as u64 || file.read_exact(&mut table).is_err() {
        return damaged("its headers are damaged");
    }
    let end = |program: &[u8]| number(program, 8, 8).saturating_add(number(program, 32, 8));
    match table.chunks_exact(PROGRAM_HEADER).map(end).max() {
        Some(end) if end > length => damaged("the file is cut short: fetch it again"),
        _ => Ok(()),
    }
}

/// Asks the library for its version and for the interface that `ort` will ask it for, before `ort` settles on it for
/// good.
#[expect(unsafe_code, reason = "the library's entry point is a C function")]
fn probe(path: &Path) -> Result<String, String> {
    // Safety: loading runs the library's initialisers, which is what the caller wants of this file. The types of the
    // entry point and of what it returns are those of ONNX Runtime's C header, unchanged since its first version.
    unsafe {
        let library = libloading::Library::new(path)
            .map_err(|error| error.source().map_or_else(|| error.to_string(), |cause| cause.to_string()))?;
        let entry = library
            .get::<unsafe extern "C" fn() -> *const ort::sys::OrtApiBase>(b"OrtGetApiBase")
            .map_err(|_| "it is not ONNX Runtime: it has no OrtGetApiBase".to_owned())?;
        let Some(base) = entry().as_ref() else {
            return Err("its OrtGetApiBase returns nothing".to_owned());
        };
        let version = (base.GetVersionString)();
        if version.is_null() {
            return Err("it does not tell its version".to_owned());
        }
        let version = CStr::from_ptr(version).to_string_lossy().into_owned();
        if (base.GetApi)(ort::MINOR_VERSION).is_null() {
            return Err(format!("it is version {version}; 1.{} or later is needed", ort::MINOR_VERSION));
        }
        // Loaded for good, as `ort` keeps it too: its threads and handlers must not lose their code.
        std::mem::forget(library);
        Ok(version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_says_where_it_was_looked_for() {
        let folder = tempfile::tempdir().unwrap();
        let error = find_from(Some(folder.path()), None).unwrap_err().to_string();
        assert!(error.contains(&folder.path().display().to_string()), "{error}");
        assert!(error.contains("make onnxruntime") && error.contains("ORT_DYLIB_PATH"), "{error}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_library_is_found_beside_the_program_and_in_folders_above() {
        let root = tempfile::tempdir().unwrap();
        let program = root.path().join("target/release");
        let machine = if ARCH == "x86_64" { "x64" } else { "arm64" };
        let package = |version: &str| root.path().join(PACKAGE).join(version).join("linux").join(machine);
        for folder in [package("napi-v6"), package("napi-v10"), program.clone()] {
            std::fs::create_dir_all(folder).unwrap();
        }
        std::fs::write(package("napi-v6").join("libonnxruntime.so.1"), "").unwrap();
        let found = || find_from(Some(&program), None).unwrap();
        assert_eq!(found(), package("napi-v6").join("libonnxruntime.so.1"));
        std::fs::write(package("napi-v10").join("libonnxruntime.so.1"), "").unwrap();
        assert_eq!(found(), package("napi-v10").join("libonnxruntime.so.1"));
        std::fs::write(program.join("libonnxruntime.so.1.30.0"), "").unwrap();
        std::fs::write(program.join("libonnxruntime_providers_shared.so"), "").unwrap();
        assert_eq!(found(), program.join("libonnxruntime.so.1.30.0"));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_is_no_library_or_half_of_one_is_refused_before_it_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("libonnxruntime.so");
        let refused = |bytes: &[u8]| {
            std::fs::write(&file, bytes).unwrap();
            load(&file).err().expect("a broken library was loaded")
        };
        assert!(refused(b"").contains("no shared library"));
        assert!(refused(&[7; 4096]).contains("no shared library"));
        let this_program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(refused(&this_program[..this_program.len() / 2]).contains("cut short"));
        assert!(refused(&this_program[..100]).contains("damaged"));
        let mut foreign = this_program.clone();
        foreign[18] = 40;
        assert!(refused(&foreign).contains("another processor"));
        refused(&this_program);
        assert!(load(&folder.path().join("none.so")).is_err());
    }
}
