//! Names of keys (`KEY_*` of `linux/input-event-codes.h`), by which people send them to a guest.

/// Without their prefix, in the order of their numbers from 0; `-` has no name.
const NAMES: &str = "\
    - ESC 1 2 3 4 5 6 7 8 9 0 MINUS EQUAL BACKSPACE TAB Q W E R T Y U I O P LEFTBRACE RIGHTBRACE \
    ENTER LEFTCTRL A S D F G H J K L SEMICOLON APOSTROPHE GRAVE LEFTSHIFT BACKSLASH Z X C V B N M \
    COMMA DOT SLASH RIGHTSHIFT KPASTERISK LEFTALT SPACE CAPSLOCK F1 F2 F3 F4 F5 F6 F7 F8 F9 F10 \
    NUMLOCK SCROLLLOCK KP7 KP8 KP9 KPMINUS KP4 KP5 KP6 KPPLUS KP1 KP2 KP3 KP0 KPDOT - \
    ZENKAKUHANKAKU 102ND F11 F12 RO KATAKANA HIRAGANA HENKAN KATAKANAHIRAGANA MUHENKAN KPJPCOMMA \
    KPENTER RIGHTCTRL KPSLASH SYSRQ RIGHTALT LINEFEED HOME UP PAGEUP LEFT RIGHT END DOWN PAGEDOWN \
    INSERT DELETE MACRO MUTE VOLUMEDOWN VOLUMEUP POWER KPEQUAL KPPLUSMINUS PAUSE SCALE KPCOMMA \
    HANGEUL HANJA YEN LEFTMETA RIGHTMETA COMPOSE STOP AGAIN PROPS UNDO FRONT COPY OPEN PASTE FIND \
    CUT HELP MENU CALC SETUP SLEEP WAKEUP FILE SENDFILE DELETEFILE XFER PROG1 PROG2 WWW MSDOS \
    COFFEE ROTATE_DISPLAY CYCLEWINDOWS MAIL BOOKMARKS COMPUTER BACK FORWARD CLOSECD EJECTCD \
    EJECTCLOSECD NEXTSONG PLAYPAUSE PREVIOUSSONG STOPCD RECORD REWIND PHONE ISO CONFIG HOMEPAGE \
    REFRESH EXIT MOVE EDIT SCROLLUP SCROLLDOWN KPLEFTPAREN KPRIGHTPAREN NEW REDO F13 F14 F15 F16 \
    F17 F18 F19 F20 F21 F22 F23 F24 - - - - - PLAYCD PAUSECD PROG3 PROG4 ALL_APPLICATIONS SUSPEND \
    CLOSE PLAY FASTFORWARD BASSBOOST PRINT HP CAMERA SOUND QUESTION EMAIL CHAT SEARCH CONNECT \
    FINANCE SPORT SHOP ALTERASE CANCEL BRIGHTNESSDOWN BRIGHTNESSUP MEDIA SWITCHVIDEOMODE \
    KBDILLUMTOGGLE KBDILLUMDOWN KBDILLUMUP SEND REPLY FORWARDMAIL SAVE DOCUMENTS BATTERY \
    BLUETOOTH WLAN UWB UNKNOWN VIDEO_NEXT VIDEO_PREV BRIGHTNESS_CYCLE BRIGHTNESS_AUTO DISPLAY_OFF \
    WWAN RFKILL MICMUTE";

const PREFIX: &str = "KEY_";

/// The number of a named key.
pub(crate) fn code(name: &str) -> Option<u16> {
    let name = name.strip_prefix(PREFIX)?;
    let mut named = (0..).zip(NAMES.split_ascii_whitespace());
    named.find(|(_, known)| *known == name && *known != "-").map(|(code, _)| code)
}

/// A key that is given by its number, decimal or with `0x`.
pub(crate) fn number(text: &str) -> Option<u16> {
    match text.strip_prefix("0x") {
        Some(digits) => u16::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// What was meant by a name in another case, or without its prefix.
pub(crate) fn near(name: &str) -> Option<String> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix(PREFIX).unwrap_or(&upper);
    let whole = format!("{PREFIX}{bare}");
    code(&whole).map(|_| whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_numbers_of_the_kernel() {
        for (name, number) in [
            ("KEY_ESC", 1),
            ("KEY_LEFTCTRL", 29),
            ("KEY_LEFTALT", 56),
            ("KEY_F12", 88),
            ("KEY_SYSRQ", 99),
            ("KEY_DELETE", 111),
            ("KEY_LEFTMETA", 125),
            ("KEY_F24", 194),
            ("KEY_MICMUTE", 248),
        ] {
            assert_eq!(code(name), Some(number), "{name}");
        }
        assert_eq!(code("KEY_-"), None);
        assert_eq!((number("0x1c"), number("28"), number("a")), (Some(28), Some(28), None));
        assert_eq!(near("leftctrl").as_deref(), Some("KEY_LEFTCTRL"));
        assert_eq!(near("key_oops"), None);
    }
}
