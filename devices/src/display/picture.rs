//! A surface as a PNG file.

use png::{BitDepth, ColorType, Compression, Encoder};

use super::Surface;

/// # Errors
/// What the encoder says; a surface always has a size that it takes.
pub(crate) fn png(surface: &Surface) -> Result<Vec<u8>, png::EncodingError> {
    let mut file = Vec::new();
    let mut encoder = Encoder::new(&mut file, surface.width(), surface.height());
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(Compression::Fast);
    let mut writer = encoder.write_header()?;
    let mut pixels = Vec::with_capacity((surface.width() * surface.height() * 3) as usize);
    for y in 0..surface.height() {
        pixels.extend(surface.row(y).iter().flat_map(|colour| {
            let [_, red, green, blue] = colour.to_be_bytes();
            [red, green, blue]
        }));
    }
    writer.write_image_data(&pixels)?;
    writer.finish()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_reads_back_as_it_was() {
        let mut surface = Surface::new();
        surface.begin(3, 2);
        surface.put_row(1, &[0x11_2233, 0xff_ffff, 0]);
        let file = png(&surface).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height), (3, 2));
        assert_eq!(pixels[9..], [0x11, 0x22, 0x33, 0xff, 0xff, 0xff, 0, 0, 0]);
    }
}
