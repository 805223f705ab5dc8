//! A small VNC viewer (RFC 6143): what a real one does, in the order in which it does it, so that
//! tests see what its user would.

use std::io::{Read, Write};

use anyhow::{Context as _, Result, bail, ensure};
use des::Des;
use des::cipher::{BlockCipherEncrypt as _, KeyInit as _};
use flate2::{Decompress, FlushDecompress};

pub const RAW: i32 = 0;
pub const TIGHT: i32 = 7;
pub const ZRLE: i32 = 16;
pub const DESKTOP_SIZE: i32 = -223;
pub const POINTER_MOTION: i32 = -257;
pub const QEMU_KEYS: i32 = -258;
pub const EXTENDED_DESKTOP_SIZE: i32 = -308;

/// A connected viewer and the picture it has got so far.
pub struct Viewer<S> {
    stream: S,
    pub name: String,
    pub width: usize,
    pub height: usize,
    /// `0x00RRGGBB`
    pub pixels: Vec<u32>,
    /// Pseudo-encodings that came, the latest last, with their position.
    pub told: Vec<(i32, (u16, u16))>,
    /// Encodings of the rectangles that came.
    pub used: Vec<i32>,
    streams: [Decompress; 4],
}

impl<S: Read + Write> Viewer<S> {
    /// Shake hands as version 3.8.
    pub fn connect(mut stream: S, password: Option<&str>) -> Result<Self> {
        let types = greet(&mut stream)?;
        let wanted = if password.is_some() { 2 } else { 1 };
        ensure!(types.contains(&wanted), "security types {types:?}, without {wanted}");
        stream.write_all(&[wanted])?;
        Self::join(stream, password)
    }

    /// From the authentication on, whose type is chosen.
    pub fn join(mut stream: S, password: Option<&str>) -> Result<Self> {
        if let Some(password) = password {
            let challenge: [u8; 16] = take(&mut stream)?;
            stream.write_all(&answer(password, challenge))?;
        }
        if u32::from_be_bytes(take(&mut stream)?) != 0 {
            bail!("refused: {}", text(&mut stream)?);
        }
        stream.write_all(&[1])?;
        let [w1, w0, h1, h0] = take(&mut stream)?;
        let format: [u8; 16] = take(&mut stream)?;
        ensure!(format[..4] == [32, 24, 0, 1], "pixel format {format:?}");
        let name = text(&mut stream)?;
        let (width, height) =
            (u16::from_be_bytes([w1, w0]).into(), u16::from_be_bytes([h1, h0]).into());
        Ok(Self {
            stream,
            name,
            width,
            height,
            pixels: vec![0; width * height],
            told: Vec::new(),
            used: Vec::new(),
            streams: std::array::from_fn(|_| Decompress::new(true)),
        })
    }

    pub fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    pub fn set_encodings(&mut self, list: &[i32]) -> Result<()> {
        let mut message = vec![2, 0];
        message.extend((list.len() as u16).to_be_bytes());
        message.extend(list.iter().flat_map(|number| number.to_be_bytes()));
        Ok(self.stream.write_all(&message)?)
    }

    pub fn request(&mut self, incremental: bool) -> Result<()> {
        let mut message = vec![3, incremental.into(), 0, 0, 0, 0];
        message.extend((self.width as u16).to_be_bytes());
        message.extend((self.height as u16).to_be_bytes());
        Ok(self.stream.write_all(&message)?)
    }

    pub fn key(&mut self, keysym: u32, down: bool) -> Result<()> {
        let mut message = vec![4, down.into(), 0, 0];
        message.extend(keysym.to_be_bytes());
        Ok(self.stream.write_all(&message)?)
    }

    pub fn pointer(&mut self, buttons: u8, x: u16, y: u16) -> Result<()> {
        let mut message = vec![5, buttons];
        message.extend([x, y].iter().flat_map(|value| value.to_be_bytes()));
        Ok(self.stream.write_all(&message)?)
    }

    /// One whole update, drawn.
    pub fn update(&mut self) -> Result<()> {
        let [kind, _, n1, n0] = take(&mut self.stream)?;
        ensure!(kind == 0, "message {kind} instead of an update");
        for _ in 0..u16::from_be_bytes([n1, n0]) {
            let head: [u8; 12] = take(&mut self.stream)?;
            let [x, y, width, height] =
                [0, 2, 4, 6].map(|at| u16::from_be_bytes([head[at], head[at + 1]]));
            let encoding = i32::from_be_bytes([head[8], head[9], head[10], head[11]]);
            self.rectangle(encoding, (x, y), (width.into(), height.into()))?;
        }
        Ok(())
    }

    fn rectangle(&mut self, encoding: i32, at: (u16, u16), (w, h): (usize, usize)) -> Result<()> {
        match encoding {
            RAW => {
                let mut bytes = vec![0; w * h * 4];
                self.stream.read_exact(&mut bytes)?;
                let pixels = bytes.chunks(4).map(|p| u32::from_le_bytes([p[0], p[1], p[2], 0]));
                self.draw(at, w, &pixels.collect::<Vec<_>>())?;
            }
            ZRLE => {
                let length = u32::from_be_bytes(take(&mut self.stream)?) as usize;
                let data = self.inflate(3, length, None)?;
                self.zrle(&data, at, (w, h))?;
            }
            TIGHT => self.tight(at, (w, h))?,
            DESKTOP_SIZE | EXTENDED_DESKTOP_SIZE => {
                if encoding == EXTENDED_DESKTOP_SIZE {
                    let [screens, ..] = take::<4>(&mut self.stream)?;
                    ensure!(screens == 1);
                    take::<16>(&mut self.stream)?;
                }
                self.told.push((encoding, at));
                if (w, h) != (self.width, self.height) {
                    (self.width, self.height) = (w, h);
                    self.pixels = vec![0; w * h];
                }
                return Ok(());
            }
            POINTER_MOTION | QEMU_KEYS => {
                self.told.push((encoding, at));
                return Ok(());
            }
            other => bail!("encoding {other} was not asked for"),
        }
        self.used.push(encoding);
        Ok(())
    }

    fn draw(&mut self, (x, y): (u16, u16), width: usize, pixels: &[u32]) -> Result<()> {
        for (row, pixels) in pixels.chunks(width.max(1)).enumerate() {
            let start = (usize::from(y) + row) * self.width + usize::from(x);
            ensure!(usize::from(x) + width <= self.width, "a rectangle leaves the picture");
            let place = self.pixels.get_mut(start..start + width);
            place.context("a rectangle leaves the picture")?.copy_from_slice(pixels);
        }
        Ok(())
    }

    /// `length` bytes of the stream, inflated: `expected` bytes, or all there are.
    fn inflate(
        &mut self,
        stream: usize,
        length: usize,
        expected: Option<usize>,
    ) -> Result<Vec<u8>> {
        let mut packed = vec![0; length];
        self.stream.read_exact(&mut packed)?;
        let decompress = &mut self.streams[stream];
        let mut out = Vec::new();
        let mut done = 0;
        loop {
            out.reserve(64 << 10);
            let before = decompress.total_in();
            decompress.decompress_vec(&packed[done..], &mut out, FlushDecompress::Sync)?;
            done += (decompress.total_in() - before) as usize;
            if done == length && out.len() < out.capacity() {
                break;
            }
        }
        ensure!(expected.is_none_or(|expected| expected == out.len()), "{} bytes", out.len());
        Ok(out)
    }

    fn zrle(&mut self, data: &[u8], (x, y): (u16, u16), (w, h): (usize, usize)) -> Result<()> {
        let mut data = data;
        for ty in (0..h).step_by(64) {
            for tx in (0..w).step_by(64) {
                let (tw, th) = (64.min(w - tx), 64.min(h - ty));
                let [kind] = take(&mut data)?;
                let mut pixels = Vec::with_capacity(tw * th);
                let colours = match kind {
                    0 | 128 => 0,
                    n => usize::from(n & 0x7f),
                };
                let palette: Vec<u32> =
                    (0..colours).map(|_| compact(&mut data)).collect::<Result<_>>()?;
                match kind {
                    0 => {
                        for _ in 0..tw * th {
                            pixels.push(compact(&mut data)?);
                        }
                    }
                    1 => pixels = vec![palette[0]; tw * th],
                    2..=16 => {
                        let bits = match kind {
                            2 => 1,
                            3 | 4 => 2,
                            _ => 4,
                        };
                        for _ in 0..th {
                            let mut row = vec![0; (tw * bits).div_ceil(8)];
                            data.read_exact(&mut row)?;
                            pixels.extend((0..tw).map(|at| {
                                let shift = 8 - bits - at * bits % 8;
                                palette
                                    [usize::from(row[at * bits / 8] >> shift & ((1 << bits) - 1))]
                            }));
                        }
                    }
                    128 => {
                        while pixels.len() < tw * th {
                            let colour = compact(&mut data)?;
                            let mut length = 1;
                            loop {
                                let [more] = take(&mut data)?;
                                length += usize::from(more);
                                if more != 255 {
                                    break;
                                }
                            }
                            pixels.resize(pixels.len() + length, colour);
                        }
                    }
                    other => bail!("ZRLE tile of kind {other}"),
                }
                ensure!(pixels.len() == tw * th);
                self.draw((x + tx as u16, y + ty as u16), tw, &pixels)?;
            }
        }
        ensure!(data.is_empty(), "{} bytes are left of a ZRLE rectangle", data.len());
        Ok(())
    }

    fn tight(&mut self, at: (u16, u16), (w, h): (usize, usize)) -> Result<()> {
        let [control] = take(&mut self.stream)?;
        let colour = |stream: &mut S| -> Result<u32> {
            let [red, green, blue] = take(stream)?;
            Ok(u32::from_be_bytes([0, red, green, blue]))
        };
        if control >> 4 == 8 {
            let colour = colour(&mut self.stream)?;
            return self.draw(at, w, &vec![colour; w * h]);
        }
        ensure!(control & 0x8f == 0, "tight control {control:#x}");
        let number = usize::from(control >> 4 & 3);
        let mut palette = Vec::new();
        if control & 0x40 != 0 {
            let [filter, last] = take(&mut self.stream)?;
            ensure!(filter == 1, "tight filter {filter}");
            for _ in 0..=last {
                palette.push(colour(&mut self.stream)?);
            }
        }
        let length = match palette.len() {
            0 => w * h * 3,
            2 => w.div_ceil(8) * h,
            _ => w * h,
        };
        let data = if length < 12 {
            let mut data = vec![0; length];
            self.stream.read_exact(&mut data)?;
            data
        } else {
            let mut packed = 0;
            for shift in [0, 7, 14] {
                let [byte] = take(&mut self.stream)?;
                let bits = if shift == 14 { byte } else { byte & 0x7f };
                packed |= usize::from(bits) << shift;
                if byte & 0x80 == 0 || shift == 14 {
                    break;
                }
            }
            self.inflate(number, packed, Some(length))?
        };
        let pixels: Vec<u32> = match palette.len() {
            0 => data.chunks(3).map(|p| u32::from_be_bytes([0, p[0], p[1], p[2]])).collect(),
            2 => data
                .chunks(w.div_ceil(8))
                .flat_map(|row| (0..w).map(|x| palette[usize::from(row[x / 8] >> (7 - x % 8) & 1)]))
                .collect(),
            _ => data.iter().map(|index| palette[usize::from(*index)]).collect(),
        };
        self.draw(at, w, &pixels)
    }
}

fn compact(data: &mut &[u8]) -> Result<u32> {
    let [blue, green, red] = take(data)?;
    Ok(u32::from_le_bytes([blue, green, red, 0]))
}

/// Exchange versions; the security types that the server offers.
pub fn greet(mut stream: impl Read + Write) -> Result<Vec<u8>> {
    let mut version = [0; 12];
    stream.read_exact(&mut version).context("the server's version")?;
    ensure!(&version == b"RFB 003.008\n", "version {:?}", String::from_utf8_lossy(&version));
    stream.write_all(&version)?;
    let [count] = take(&mut stream)?;
    let mut types = vec![0; count.into()];
    stream.read_exact(&mut types)?;
    Ok(types)
}

pub(crate) fn take<const N: usize>(stream: &mut impl Read) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn text(stream: &mut impl Read) -> Result<String> {
    let length = u32::from_be_bytes(take(stream)?);
    ensure!(length < 1 << 16, "a text of {length} bytes");
    let mut bytes = vec![0; length as usize];
    stream.read_exact(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The challenge, encrypted with the password.
fn answer(password: &str, challenge: [u8; 16]) -> [u8; 16] {
    let mut key = [0; 8];
    for (key, byte) in key.iter_mut().zip(password.bytes()) {
        *key = byte.reverse_bits();
    }
    let cipher = Des::new(&key.into());
    let mut out = challenge;
    for half in out.chunks_exact_mut(8) {
        let mut block = <[u8; 8]>::try_from(&*half).expect("eight bytes").into();
        cipher.encrypt_block(&mut block);
        half.copy_from_slice(&block);
    }
    out
}
