//! Image archives: reading which images one holds, and writing the one image that is made here. A tar file is 512-byte headers, each
//! followed by its file's bytes rounded up to 512: little enough to do by hand.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::parts::hex;

const BLOCK: usize = 512;
/// Manifests and configurations are some kilobytes; more than this is something else.
const SMALL: u64 = 4 << 20;

/// An entry of docker-archive's manifest.json.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Manifest {
    config: String,
    repo_tags: Option<Vec<String>>,
}

/// Which images an archive holds: a digest of the configuration, which names every layer's content, by the image's name.
pub fn images(archive: &Path) -> Result<BTreeMap<String, String>> {
    let inspect = || -> Result<BTreeMap<String, String>> {
        let manifest = read(archive, "manifest.json")?.context("not a docker-archive: it has no manifest.json")?;
        let manifests: Vec<Manifest> = serde_json::from_slice(&manifest).context("manifest.json")?;
        let mut images = BTreeMap::new();
        for manifest in manifests {
            let config =
                read(archive, &manifest.config)?.with_context(|| format!("the archive lacks {}", manifest.config))?;
            let digest = hex(&Sha256::digest(&config));
            images.extend(manifest.repo_tags.unwrap_or_default().into_iter().map(|tag| (tag, digest.clone())));
        }
        if images.is_empty() {
            bail!("it holds no image with a name: make it with one, such as docker-archive:FILE:gantry/rocketmq:5.5.0");
        }
        Ok(images)
    };
    inspect().with_context(|| archive.display().to_string())
}

/// Reads one small file of a tar file, looking at headers only until it comes.
fn read(archive: &Path, wanted: &str) -> Result<Option<Vec<u8>>> {
    let mut file = File::open(archive)?;
    let mut header = [0_u8; BLOCK];
    while file.read_exact(&mut header).is_ok() && header[0] != 0 {
        let size = size(&header[124..136]).context("a damaged tar header")?;
        let name = header[..100].split(|byte| *byte == 0).next().unwrap_or_default();
        if name.strip_prefix(b"./").unwrap_or(name) == wanted.as_bytes() {
            if size > SMALL {
                bail!("{wanted} is too large to be what it is called");
            }
            let mut content = Vec::new();
            file.take(size).read_to_end(&mut content)?;
            return Ok(Some(content));
        }
        let padded =
            size.div_ceil(BLOCK as u64).checked_mul(BLOCK as u64).and_then(|padded| i64::try_from(padded).ok());
        file.seek(SeekFrom::Current(padded.context("a damaged tar header")?))?;
    }
    Ok(None)
}

/// A size in a tar header: octal digits, or, from 8 GiB on, a number of bytes with the first bit set.
fn size(field: &[u8]) -> Option<u64> {
    if field.first()? & 0x80 != 0 {
        return Some(field[4..].iter().fold(0, |number, byte| number << 8 | u64::from(*byte)));
    }
    let digits = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    if digits.is_empty() { Some(0) } else { u64::from_str_radix(digits, 8).ok() }
}

/// Writes a docker-archive with an image of one static program, which is its entry point.
pub fn write_program(archive: &Path, name: &str, program: &Path) -> Result<()> {
    let file_name = program.file_name().context("a program without a name")?.to_string_lossy();
    let layer = tar(&[(&file_name, 0o755, &std::fs::read(program).with_context(|| program.display().to_string())?)]);
    let diff = hex(&Sha256::digest(&layer));
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }, "os": "linux",
        "config": {"Entrypoint": [format!("/{file_name}")], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{diff}")]},
    });
    let config = serde_json::to_vec(&config)?;
    let config_name = format!("{}.json", hex(&Sha256::digest(&config)));
    let manifest = serde_json::to_vec(&json!([{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]))?;
    let all = tar(&[("layer.tar", 0o644, &layer), (&config_name, 0o644, &config), ("manifest.json", 0o644, &manifest)]);
    // A name of its own, because nodes that start side by side may all find the archive missing.
    let new = archive.with_extension(format!("{}-{:?}", std::process::id(), std::thread::current().id()));
    File::create(&new).and_then(|mut file| file.write_all(&all)).with_context(|| new.display().to_string())?;
    std::fs::rename(&new, archive).with_context(|| archive.display().to_string())
}

/// A tar file (ustar) of files given by name, mode and content; owned by root, dated 1970, so that equal input gives equal bytes.
fn tar(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, mode, content) in files {
        let mut header = [0_u8; BLOCK];
        let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, name);
        put(100, &format!("{mode:07o}"));
        put(108, "0000000");
        put(116, "0000000");
        put(124, &format!("{:011o}", content.len()));
        put(136, "00000000000");
        put(148, "        "); // the checksum counts itself as spaces
        put(156, "0");
        put(257, "ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(content);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
    }
    out.resize(out.len() + 2 * BLOCK, 0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temporary(name: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("gantry-{name}-{}", std::process::id()))
    }

    #[test]
    fn an_archive_written_here_is_read_here() {
        let (archive, program) = (temporary("pause.tar"), temporary("pause"));
        std::fs::write(&program, b"not really a program").unwrap();
        write_program(&archive, "gantry/pause:1", &program).unwrap();
        let first = images(&archive).unwrap();
        assert_eq!(first.keys().collect::<Vec<_>>(), ["gantry/pause:1"]);
        std::fs::write(&program, b"another program").unwrap();
        write_program(&archive, "gantry/pause:1", &program).unwrap();
        let second = images(&archive).unwrap();
        std::fs::remove_file(&program).unwrap();
        std::fs::remove_file(&archive).unwrap();
        assert_ne!(first, second, "other content must have another digest");
    }

    #[test]
    fn the_systems_tar_reads_what_is_written_here() {
        let archive = temporary("any.tar");
        std::fs::write(&archive, tar(&[("a", 0o644, b"one"), ("b", 0o755, &[7; 600])])).unwrap();
        let output = std::process::Command::new("tar").arg("-tvf").arg(&archive).output().unwrap();
        std::fs::remove_file(&archive).unwrap();
        let listed = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success());
        assert!(listed.lines().count() == 2 && listed.contains("-rwxr-xr-x") && listed.contains("600"), "{listed}");
    }

    #[test]
    fn a_file_that_is_no_archive_is_an_error_with_its_name() {
        let path = temporary("no.tar");
        std::fs::write(&path, b"hello").unwrap();
        let error = format!("{:#}", images(&path).unwrap_err());
        std::fs::remove_file(&path).unwrap();
        assert!(error.contains("no.tar") && error.contains("not a docker-archive"), "{error}");
    }

    #[test]
    fn sizes_are_octal_or_from_eight_gibibytes_on_binary() {
        assert_eq!(size(b"00000001750\0"), Some(1000));
        assert_eq!(size(&[0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]), Some(8 << 30));
        assert_eq!(size(b"zzz\0\0\0\0\0\0\0\0\0"), None);
    }
}
