//! The keys of a PC keyboard: what Linux calls them, what PS/2 sends for them, and what X11 calls
//! what is printed on them.

/// The second byte of a key whose scan code (set 1) is of two; [`SCAN`] says which.
const EXTENDED: u16 = 0xe000;

/// Linux's codes 1 to 88 are scan codes of set 1, as are a few above. The others, by hand.
const SCAN: &[(u16, u16)] = &[
    (85, 0x76),             // ZENKAKUHANKAKU
    (89, 0x73),             // RO
    (92, 0x79),             // HENKAN
    (93, 0x70),             // KATAKANAHIRAGANA
    (94, 0x7b),             // MUHENKAN
    (96, EXTENDED | 0x1c),  // KPENTER
    (97, EXTENDED | 0x1d),  // RIGHTCTRL
    (98, EXTENDED | 0x35),  // KPSLASH
    (99, EXTENDED | 0x37),  // SYSRQ
    (100, EXTENDED | 0x38), // RIGHTALT
    (102, EXTENDED | 0x47), // HOME
    (103, EXTENDED | 0x48), // UP
    (104, EXTENDED | 0x49), // PAGEUP
    (105, EXTENDED | 0x4b), // LEFT
    (106, EXTENDED | 0x4d), // RIGHT
    (107, EXTENDED | 0x4f), // END
    (108, EXTENDED | 0x50), // DOWN
    (109, EXTENDED | 0x51), // PAGEDOWN
    (110, EXTENDED | 0x52), // INSERT
    (111, EXTENDED | 0x53), // DELETE
    (113, EXTENDED | 0x20), // MUTE
    (114, EXTENDED | 0x2e), // VOLUMEDOWN
    (115, EXTENDED | 0x30), // VOLUMEUP
    (116, EXTENDED | 0x5e), // POWER
    (117, 0x59),            // KPEQUAL
    (119, EXTENDED | 0x46), // PAUSE: as it is with Ctrl held; see `Keyboard`
    (121, 0x7e),            // KPCOMMA
    (124, 0x7d),            // YEN
    (125, EXTENDED | 0x5b), // LEFTMETA
    (126, EXTENDED | 0x5c), // RIGHTMETA
    (127, EXTENDED | 0x5d), // COMPOSE
    (128, EXTENDED | 0x68), // STOP
    (140, EXTENDED | 0x21), // CALC
    (142, EXTENDED | 0x5f), // SLEEP
    (143, EXTENDED | 0x63), // WAKEUP
    (155, EXTENDED | 0x6c), // MAIL
    (156, EXTENDED | 0x66), // BOOKMARKS
    (157, EXTENDED | 0x6b), // COMPUTER
    (158, EXTENDED | 0x6a), // BACK
    (159, EXTENDED | 0x69), // FORWARD
    (163, EXTENDED | 0x19), // NEXTSONG
    (164, EXTENDED | 0x22), // PLAYPAUSE
    (165, EXTENDED | 0x10), // PREVIOUSSONG
    (166, EXTENDED | 0x24), // STOPCD
    (172, EXTENDED | 0x32), // HOMEPAGE
    (173, EXTENDED | 0x67), // REFRESH
    (217, EXTENDED | 0x65), // SEARCH
];

/// What set 1 has no key for below 89.
const NO_KEY: [u16; 2] = [84, 85];

/// The scan code of set 1 of a key, `0xe0NN` for those of two bytes.
#[must_use]
pub fn scan_code(key: u16) -> Option<u16> {
    match key {
        1..=88 if !NO_KEY.contains(&key) => Some(key),
        _ => SCAN.iter().find(|(linux, _)| *linux == key).map(|(_, scan)| *scan),
    }
}

/// The key of a scan code of set 1 (`0xe0NN`, or as QEMU writes it with bit 7 instead).
#[must_use]
pub fn from_scan_code(scan: u16) -> Option<u16> {
    let scan = match scan {
        0x80..=0xff => EXTENDED | scan & 0x7f,
        other => other,
    };
    match scan {
        1..=88 if !NO_KEY.contains(&scan) => Some(scan),
        _ => SCAN.iter().find(|(_, code)| *code == scan).map(|(linux, _)| *linux),
    }
}

/// Keys by what a US keyboard has printed on them, without and with Shift; by Linux code.
const PRINTED: &[(u16, &str)] = &[
    (2, "1!"),
    (3, "2@"),
    (4, "3#"),
    (5, "4$"),
    (6, "5%"),
    (7, "6^"),
    (8, "7&"),
    (9, "8*"),
    (10, "9("),
    (11, "0)"),
    (12, "-_"),
    (13, "=+"),
    (16, "qQ"),
    (17, "wW"),
    (18, "eE"),
    (19, "rR"),
    (20, "tT"),
    (21, "yY"),
    (22, "uU"),
    (23, "iI"),
    (24, "oO"),
    (25, "pP"),
    (26, "[{"),
    (27, "]}"),
    (30, "aA"),
    (31, "sS"),
    (32, "dD"),
    (33, "fF"),
    (34, "gG"),
    (35, "hH"),
    (36, "jJ"),
    (37, "kK"),
    (38, "lL"),
    (39, ";:"),
    (40, "'\""),
    (41, "`~"),
    (43, "\\|"),
    (44, "zZ"),
    (45, "xX"),
    (46, "cC"),
    (47, "vV"),
    (48, "bB"),
    (49, "nN"),
    (50, "mM"),
    (51, ",<"),
    (52, ".>"),
    (53, "/?"),
    (57, "  "),
];

/// Keysyms of keys that print nothing (`X11/keysymdef.h`); by Linux code.
const NAMED: &[(u32, u16)] = &[
    (0xff08, 14),  // BackSpace
    (0xff09, 15),  // Tab
    (0xfe20, 15),  // ISO_Left_Tab
    (0xff0d, 28),  // Return
    (0xff13, 119), // Pause
    (0xff14, 70),  // Scroll_Lock
    (0xff15, 99),  // Sys_Req
    (0xff1b, 1),   // Escape
    (0xff50, 102), // Home
    (0xff51, 105), // Left
    (0xff52, 103), // Up
    (0xff53, 106), // Right
    (0xff54, 108), // Down
    (0xff55, 104), // Page_Up
    (0xff56, 109), // Page_Down
    (0xff57, 107), // End
    (0xff61, 99),  // Print
    (0xff63, 110), // Insert
    (0xff67, 127), // Menu
    (0xff6b, 119), // Break
    (0xff7e, 100), // Mode_switch
    (0xff7f, 69),  // Num_Lock
    (0xff8d, 96),  // KP_Enter
    (0xff95, 71),  // KP_Home
    (0xff96, 75),  // KP_Left
    (0xff97, 72),  // KP_Up
    (0xff98, 77),  // KP_Right
    (0xff99, 80),  // KP_Down
    (0xff9a, 73),  // KP_Page_Up
    (0xff9b, 81),  // KP_Page_Down
    (0xff9c, 79),  // KP_End
    (0xff9d, 76),  // KP_Begin
    (0xff9e, 82),  // KP_Insert
    (0xff9f, 83),  // KP_Delete
    (0xffaa, 55),  // KP_Multiply
    (0xffab, 78),  // KP_Add
    (0xffac, 121), // KP_Separator
    (0xffad, 74),  // KP_Subtract
    (0xffae, 83),  // KP_Decimal
    (0xffaf, 98),  // KP_Divide
    (0xffb0, 82),  // KP_0 …
    (0xffb1, 79),
    (0xffb2, 80),
    (0xffb3, 81),
    (0xffb4, 75),
    (0xffb5, 76),
    (0xffb6, 77),
    (0xffb7, 71),
    (0xffb8, 72),
    (0xffb9, 73),
    (0xffbd, 117), // KP_Equal
    (0xffbe, 59),  // F1 …
    (0xffbf, 60),
    (0xffc0, 61),
    (0xffc1, 62),
    (0xffc2, 63),
    (0xffc3, 64),
    (0xffc4, 65),
    (0xffc5, 66),
    (0xffc6, 67),
    (0xffc7, 68),
    (0xffc8, 87),
    (0xffc9, 88),  // F12
    (0xffe1, 42),  // Shift_L
    (0xffe2, 54),  // Shift_R
    (0xffe3, 29),  // Control_L
    (0xffe4, 97),  // Control_R
    (0xffe5, 58),  // Caps_Lock
    (0xffe7, 125), // Meta_L
    (0xffe8, 126), // Meta_R
    (0xffe9, 56),  // Alt_L
    (0xffea, 100), // Alt_R
    (0xffeb, 125), // Super_L
    (0xffec, 126), // Super_R
    (0xfe03, 100), // ISO_Level3_Shift
    (0xffff, 111), // Delete
];

/// The key that a keysym is on, on a US keyboard: what a viewer has no scan code for.
#[must_use]
pub fn from_keysym(keysym: u32) -> Option<u16> {
    if let Some(character) = char::from_u32(keysym).filter(char::is_ascii) {
        return PRINTED
            .iter()
            .find(|(_, printed)| printed.contains(character))
            .map(|(key, _)| *key);
    }
    NAMED.iter().find(|(named, _)| *named == keysym).map(|(_, key)| *key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scan_codes_lead_to_their_keys_and_back() {
        let mut found = 0;
        for key in 0..0x300 {
            let Some(scan) = scan_code(key) else { continue };
            assert_eq!(from_scan_code(scan), Some(key), "{scan:#x}");
            found += 1;
        }
        assert_eq!(found, 86 + SCAN.len());
        assert_eq!(from_scan_code(0x9c), Some(96), "QEMU's way to write e0 1c");
        assert_eq!(scan_code(0), None);
    }

    #[test]
    fn every_printable_character_is_on_a_key_that_ps2_has() {
        for character in ' '..='~' {
            let key = from_keysym(character.into());
            assert!(key.and_then(scan_code).is_some(), "{character:?}");
        }
        for (keysym, key) in NAMED {
            assert_eq!(from_keysym(*keysym), Some(*key));
            assert!(scan_code(*key).is_some(), "{keysym:#x}");
        }
        assert_eq!(from_keysym(0x20ac), None);
    }
}
