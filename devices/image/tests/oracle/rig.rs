//! A directory of images, the tools that judge them, and random requests.

use std::fs::File;
use std::path::PathBuf;
use std::process::Output;
use std::sync::Arc;

pub(crate) use image::torture::Random;
use image::{FileStorage, Image, Storage};
use manor_tests::qemu::{ImageTools, image_tools};
use tempfile::TempDir;

pub(crate) struct Rig {
    dir: TempDir,
    tools: ImageTools,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), tools: image_tools().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// An image's file, made if it is not there.
    pub(crate) fn file(&self, name: &str) -> Arc<dyn Storage> {
        let mut options = File::options();
        let options = options.read(true).write(true).create(true).truncate(false);
        Arc::new(FileStorage::new(options.open(self.path(name)).unwrap()).unwrap())
    }

    /// qemu-img in the directory; words are split at spaces.
    pub(crate) fn img(&self, line: &str) -> String {
        let output = self.try_img(line);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "qemu-img {line}: {text}{errors}");
        text
    }

    pub(crate) fn try_img(&self, line: &str) -> Output {
        let mut command = self.tools.img.command();
        command.args(line.split_whitespace()).current_dir(self.dir.path()).output().unwrap()
    }

    /// qemu-io on an image, one command each.
    pub(crate) fn io(&self, image: &str, commands: &[String]) {
        let mut command = self.tools.io.command();
        for line in commands {
            command.args(["-c", line]);
        }
        let output = command.args(image.split_whitespace()).current_dir(self.dir.path()).output();
        let output = output.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !text.contains("failed"), "{commands:?}: {text}");
    }

    /// What a tool sees in an image.
    pub(crate) fn converted(&self, format: &str, name: &str) -> Vec<u8> {
        self.img(&format!("convert -f {format} -O raw {name} {name}.seen"));
        std::fs::read(self.path(&format!("{name}.seen"))).unwrap()
    }
}

/// Do what a guest may do, here and on plain bytes.
pub(crate) fn exercise(image: &dyn Image, model: &mut [u8], random: &mut Random, count: u32) {
    for _ in 0..count {
        let (offset, len) = random.range(model.len() as u64);
        let range = offset as usize..(offset + len) as usize;
        match random.below(10) {
            0..=3 => {
                let byte = random.number() as u8;
                model[range.clone()].fill(byte);
                image.write(&model[range], offset).unwrap();
            }
            4 => {
                model[range].fill(0);
                image.write_zeroes(offset, len, random.below(2) == 0).unwrap();
            }
            5 => {
                image.discard(offset, len).unwrap();
                // Each byte is what it was, or zero.
                let mut now = vec![0; range.len()];
                image.read(&mut now, offset).unwrap();
                let kept =
                    now.iter().zip(&model[range.clone()]).all(|(now, was)| *now == 0 || now == was);
                assert!(kept, "discard invented data at {offset}+{len}");
                model[range].copy_from_slice(&now);
            }
            6 => image.flush().unwrap(),
            _ => {
                let mut now = vec![1; range.len()];
                image.read(&mut now, offset).unwrap();
                if let Some(at) = now.iter().zip(&model[range]).position(|(now, was)| now != was) {
                    panic!("read of {offset}+{len} differs at {}", offset as usize + at);
                }
            }
        }
    }
    same(image, model);
}

/// The image reads as these bytes, and its map agrees.
pub(crate) fn same(image: &dyn Image, model: &[u8]) {
    assert_eq!(image.size(), model.len() as u64);
    let mut now = vec![1; model.len()];
    image.read(&mut now, 0).unwrap();
    if let Some(at) = now.iter().zip(model).position(|(now, was)| now != was) {
        panic!("differs at {at:#x}: {:#x} for {:#x}", now[at], model[at]);
    }
    let mut at = 0;
    while at < image.size() {
        let extent = image.map(at, image.size() - at).unwrap();
        assert!(extent.len > 0);
        if extent.is_zero() {
            let range = at as usize..(at + extent.len) as usize;
            assert!(model[range].iter().all(|byte| *byte == 0), "map says zeros at {at}");
        }
        at += extent.len;
    }
}
