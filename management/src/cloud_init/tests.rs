//! The image is read back by a reader of its own, by each of its three kinds of names.

use std::collections::BTreeMap;

use super::*;

const UUID: Uuid = Uuid::from_u128(0x6b1d_0b4f_6c3a_4a6e_9a52_1f6a_5a0d_7c11);

fn documents(user_data: &str) -> CloudInit {
    CloudInit { user_data: user_data.to_owned(), ..CloudInit::default() }
}

#[derive(Clone, Copy, PartialEq)]
enum Names {
    Short,
    RockRidge,
    Joliet,
}

fn le32(bytes: &[u8]) -> usize {
    u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize
}

fn be32(bytes: &[u8]) -> usize {
    u32::from_be_bytes(bytes[4..8].try_into().unwrap()) as usize
}

fn ucs2(bytes: &[u8]) -> String {
    let units: Vec<_> = bytes.chunks(2).map(|c| u16::from_be_bytes([c[0], c[1]])).collect();
    String::from_utf16(&units).unwrap()
}

/// Label and files.
fn read(image: &[u8], names: Names) -> (String, BTreeMap<String, String>) {
    let sector = |number: usize| &image[number * 2048..][..2048];
    let kind = if names == Names::Joliet { 2 } else { 1 };
    let volume = (16..).map(sector).find(|s| s[0] == kind && &s[1..6] == b"CD001").unwrap();
    assert_eq!(le32(&volume[80..]), image.len() / 2048, "the size is that of the image");
    assert_eq!(le32(&volume[80..]), be32(&volume[80..]));
    let label = &volume[40..72];
    let label =
        if names == Names::Joliet { ucs2(label) } else { String::from_utf8_lossy(label).into() };
    let root = &volume[156..190];
    // Both path tables lead to the same directory.
    let little = sector(le32(&volume[140..]));
    let big = sector(u32::from_be_bytes(volume[148..152].try_into().unwrap()) as usize);
    assert_eq!(le32(&little[2..]), le32(&root[2..]));
    assert_eq!(u32::from_be_bytes(big[2..6].try_into().unwrap()) as usize, le32(&root[2..]));

    let directory = sector(le32(&root[2..]));
    let mut files = BTreeMap::new();
    let (mut at, mut order) = (0, Vec::new());
    while directory[at] > 0 {
        let record = &directory[at..][..directory[at].into()];
        at += record.len();
        assert_eq!(record.len() % 2, 0);
        let name = &record[33..][..record[32].into()];
        let system = &record[(33 + name.len()).next_multiple_of(2)..];
        if name == [0] {
            assert!(names == Names::Joliet || system.starts_with(b"SP\x07\x01\xbe\xef"));
        }
        if record[25] & 2 != 0 {
            continue;
        }
        order.push(name.to_vec());
        let name = match names {
            Names::Short => String::from_utf8(name.to_vec()).unwrap(),
            Names::Joliet => ucs2(name),
            Names::RockRidge => {
                let entry = system.windows(2).position(|w| w == b"NM").unwrap();
                let len = usize::from(system[entry + 2]);
                String::from_utf8(system[entry + 5..entry + len].to_vec()).unwrap()
            }
        };
        let data = &image[le32(&record[2..]) * 2048..][..le32(&record[10..])];
        files.insert(name, String::from_utf8(data.to_vec()).unwrap());
    }
    assert!(order.is_sorted() || names == Names::Joliet);
    (label.trim_end().to_owned(), files)
}

#[test]
fn an_image_has_the_label_and_every_file_by_each_kind_of_name() {
    let long = format!("#cloud-config\n# {}\n", "x".repeat(5000));
    let given = CloudInit {
        user_data: long.clone(),
        meta_data: None,
        network_config: Some("version: 2\n".to_owned()),
    };
    let Seed(image) = given.seed(UUID, "web 1");
    assert_eq!(image.len() % 2048, 0);
    let meta_data = format!("instance-id: {UUID}\nlocal-hostname: \"web-1\"\n");
    for (names, expected) in [
        (Names::Short, ["META_DAT.;1", "NETWORK_.;1", "USER_DAT.;1"]),
        (Names::RockRidge, ["meta-data", "network-config", "user-data"]),
        (Names::Joliet, ["meta-data;1", "network-config;1", "user-data;1"]),
    ] {
        let (label, files) = read(&image, names);
        assert_eq!(label, "cidata");
        let contents = [&meta_data, "version: 2\n", &long];
        let expected: Vec<_> = expected.into_iter().zip(contents).collect();
        let found: Vec<_> = files.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(found, expected);
    }
    assert_eq!(given.seed(UUID, "web 1"), Seed(image), "the same documents make the same image");
}

#[test]
fn given_meta_data_is_kept_and_what_it_lacks_is_told() {
    let meta = |given: &str| {
        let documents =
            CloudInit { meta_data: Some(given.to_owned()), ..documents("#cloud-config\n") };
        documents.meta_data(UUID, "web")
    };
    assert_eq!(meta("instance-id: a\nhostname: b\n"), "instance-id: a\nhostname: b\n");
    let told = format!("instance-id: {UUID}\nlocal-hostname: \"web\"\nseats: 4\n");
    assert_eq!(meta("seats: 4\n"), told);
    assert_eq!(meta(" {\"instance-id\": 1}"), " {\"instance-id\": 1}", "JSON is left alone");
    assert_eq!(hostname("münchen_3."), Some("\"m-nchen-3\"".to_owned()));
    assert_eq!(hostname("…"), None);
}

#[test]
fn documents_that_cloud_init_would_ignore_are_refused() {
    for good in ["#cloud-config\n", "#!/bin/sh\n", "Content-Type: multipart/mixed", "#include\n"] {
        documents(good).check().unwrap();
    }
    let error = documents("users: []\n").check().unwrap_err();
    assert_eq!(error.code, Code::InvalidArgument);
    assert!(error.message.contains("user-data") && error.message.contains("#cloud-config"));
    let large = format!("#cloud-config\n{}", "#".repeat(MOST_DOCUMENT));
    assert!(documents(&large).check().unwrap_err().message.contains("at most 1048576"));
    let network = |text: &str| {
        let network_config = Some(text.to_owned());
        CloudInit { network_config, ..documents("#cloud-config\n") }.check()
    };
    for good in ["version: 2\n", "network:\n  version: 1\n", "{\"version\": 2}"] {
        network(good).unwrap();
    }
    assert!(network("#cloud-config\n").unwrap_err().message.contains("network-config"));
}
