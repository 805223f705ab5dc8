//! [`Xml`]: the definition of a Linux guest that a test or a bench starts.

/// A domain that boots the stock guest, filled in as far as its user cares.
pub struct Xml {
    pub name: String,
    pub machine: String,
    pub kernel: String,
    pub initrd: String,
    /// What the guest's init shall do; see resources/guest/init.
    pub words: String,
    pub memory_mib: u64,
    pub vcpus: u32,
    /// How many of them there are at first, of a guest whose vCPUs come and go.
    pub present: Option<u32>,
    pub features: String,
    pub cpu: String,
    /// Elements below `<domain>`, such as `<on_reboot>`.
    pub domain: String,
    pub devices: String,
    pub balloon: String,
}

impl Xml {
    /// A q35 with the guest's parts where [`crate::guest`] has them put.
    #[must_use]
    pub fn new(name: &str, words: &str) -> Xml {
        Xml {
            name: name.into(),
            machine: "q35".into(),
            kernel: "/guest/vmlinuz".into(),
            initrd: "/guest/initrd".into(),
            words: words.into(),
            memory_mib: 128,
            vcpus: 1,
            present: None,
            features: "<acpi/>".into(),
            cpu: "<cpu mode='host-passthrough'/>".into(),
            domain: String::new(),
            devices: String::new(),
            balloon: "<memballoon model='none'/>".into(),
        }
    }

    #[must_use]
    pub fn disk(mut self, file: &str, target: &str, more: &str) -> Xml {
        self.devices.push_str(&format!(
            "<disk type='file' device='disk'><driver name='qemu' type='raw'/>\
             <source file='{file}'/><target dev='{target}' bus='virtio'/>{more}</disk>"
        ));
        self
    }

    #[must_use]
    pub fn bridge(mut self, bridge: &str, mac: &str, more: &str) -> Xml {
        self.devices.push_str(&format!(
            "<interface type='bridge'><mac address='{mac}'/><source bridge='{bridge}'/>\
             <model type='virtio'/>{more}</interface>"
        ));
        self
    }

    /// A quiet kernel, so that what the guest's init says stands out.
    #[must_use]
    pub fn command_line(&self) -> String {
        format!("console=ttyS0 quiet panic=-1 {}", self.words)
    }

    #[must_use]
    pub fn text(&self) -> String {
        let Xml { name, machine, kernel, initrd, memory_mib, vcpus, domain, devices, .. } = self;
        let current = self.present.map(|count| format!(" current='{count}'")).unwrap_or_default();
        let (features, cpu, balloon) = (&self.features, &self.cpu, &self.balloon);
        let command_line = self.command_line();
        format!(
            "<domain type='kvm'>
  <name>{name}</name>
  <memory unit='MiB'>{memory_mib}</memory>
  <vcpu{current}>{vcpus}</vcpu>
  <os>
    <type arch='x86_64' machine='{machine}'>hvm</type>
    <kernel>{kernel}</kernel>
    <initrd>{initrd}</initrd>
    <cmdline>{command_line}</cmdline>
  </os>
  <features>{features}</features>
  {cpu}
  {domain}
  <devices>
    {devices}
    {balloon}
    <serial type='pty'><target port='0'/></serial>
    <console type='pty'><target type='serial' port='0'/></console>
  </devices>
</domain>
"
        )
    }
}
