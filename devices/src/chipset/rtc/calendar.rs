//! [`Moment`]: a date and time, as seconds and as the clock's registers show it.

/// How registers hold numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) binary: bool,
    pub(super) hours_24: bool,
}

const PM: u8 = 0x80;
/// An alarm register from here on matches anything.
const ANY: u8 = 0xc0;
const DAY: i64 = 86_400;

impl Format {
    fn encode(self, value: u8) -> u8 {
        if self.binary { value } else { ((value / 10) << 4) | (value % 10) }
    }

    fn decode(self, value: u8) -> Option<u8> {
        let (tens, ones) = (value >> 4, value & 0xf);
        match self.binary {
            true => Some(value),
            false if tens <= 9 && ones <= 9 => Some(tens * 10 + ones),
            false => None,
        }
    }

    fn encode_hour(self, hour: u8) -> u8 {
        if self.hours_24 {
            return self.encode(hour);
        }
        let pm = if hour >= 12 { PM } else { 0 };
        pm | self.encode(match hour % 12 {
            0 => 12,
            hour => hour,
        })
    }

    fn decode_hour(self, value: u8) -> Option<u8> {
        if self.hours_24 {
            return self.decode(value).filter(|hour| *hour < 24);
        }
        let hour = self.decode(value & !PM).filter(|hour| (1..=12).contains(hour))? % 12;
        Some(if value & PM != 0 { hour + 12 } else { hour })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    year: u16,
    month: u8,
    day: u8,
    /// 1 is Sunday.
    weekday: u8,
    hour: u8,
    minute: u8,
    second: u8,
}

impl Moment {
    /// Seconds since 1970, before year 10000 (later moments show as the last one).
    pub(super) fn from_seconds(seconds: i64) -> Self {
        let seconds = seconds.clamp(0, 253_402_300_799);
        let (days, time) = (seconds / DAY, seconds % DAY);
        // Civil from days: years begin in March, so that the leap day is the last of a year.
        let shifted = days + 719_468;
        let (era, of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        let year = era * 400 + year_of_era + i64::from(month <= 2);
        Self {
            year: year as u16,
            month: month as u8,
            day: (day_of_year - (153 * from_march + 2) / 5 + 1) as u8,
            weekday: ((days + 4) % 7 + 1) as u8,
            hour: (time / 3600) as u8,
            minute: (time / 60 % 60) as u8,
            second: (time % 60) as u8,
        }
    }

    /// Seconds since 1970.
    pub(super) fn seconds(&self) -> i64 {
        let (month, day) = (i64::from(self.month), i64::from(self.day));
        let year = i64::from(self.year) - i64::from(month <= 2);
        let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let from_march = if month > 2 { month - 3 } else { month + 9 };
        let day_of_year = (153 * from_march + 2) / 5 + day - 1;
        let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era * 146_097 + of_era - 719_468;
        days * DAY
            + i64::from(self.hour) * 3600
            + i64::from(self.minute) * 60
            + i64::from(self.second)
    }

    /// What a register shows, if it is one of the clock's.
    pub(super) fn register(&self, register: usize, format: Format) -> Option<u8> {
        let value = match register {
            0x00 => self.second,
            0x02 => self.minute,
            0x04 => return Some(format.encode_hour(self.hour)),
            0x06 => self.weekday,
            0x07 => self.day,
            0x08 => self.month,
            0x09 => (self.year % 100) as u8,
            0x32 => (self.year / 100) as u8,
            _ => return None,
        };
        Some(format.encode(value))
    }

    /// What the registers say, if it is a date.
    pub(super) fn from_registers(registers: impl Fn(usize) -> u8, format: Format) -> Option<Self> {
        let number = |register, range: std::ops::RangeInclusive<u8>| {
            format.decode(registers(register)).filter(|value| range.contains(value))
        };
        let year = u16::from(number(0x32, 19..=99)?) * 100 + u16::from(number(0x09, 0..=99)?);
        Some(Self {
            year,
            month: number(0x08, 1..=12)?,
            day: number(0x07, 1..=31)?,
            weekday: 1,
            hour: format.decode_hour(registers(0x04))?,
            minute: number(0x02, 0..=59)?,
            second: number(0x00, 0..=59)?,
        })
    }

    /// Whether an alarm `[second, minute, hour]` goes off now.
    pub(super) fn matches(&self, alarm: [u8; 3], format: Format) -> bool {
        let [second, minute, hour] = alarm;
        let shows = |alarm: u8, value: u8| alarm >= ANY || alarm == value;
        shows(second, format.encode(self.second))
            && shows(minute, format.encode(self.minute))
            && shows(hour, format.encode_hour(self.hour))
    }
}
