#!/usr/bin/python3
"""Pull over TLS: who has a certificate or the key reads the export, nobody else does, and the probe at the end is let in."""
import os
import socket

import bed

SIZE = 4 << 20


class Pki:
    """Certificates, and readers with and without them; self.image is what is exported."""

    def certificate(self, folder, role, authority):
        """An authority when role is "ca", else what it has signed."""
        name = self.path(folder, role)
        with open(name + '.info', 'w') as f:
            f.write({'ca': 'cn = authority\nca\ncert_signing_key\n', 'server': 'cn = localhost\nip_address = 127.0.0.1\ntls_www_server\nsigning_key\nencryption_key\n',
                     'client': 'cn = reader\ntls_www_client\nsigning_key\nencryption_key\n'}[role])
        certtool = bed.need('certtool', 'gnutls-bin')
        bed.run(certtool, '--generate-privkey', '--bits', '2048', '--outfile', name + '-key.pem')
        signed = ['--generate-self-signed'] if role == 'ca' else ['--generate-certificate', '--load-ca-certificate', self.path(authority, 'ca-cert.pem'),
                                                                   '--load-ca-privkey', self.path(authority, 'ca-key.pem')]
        bed.run(certtool, *signed, '--load-privkey', name + '-key.pem', '--template', name + '.info', '--outfile', name + '-cert.pem')

    def pki(self, folder, *roles, authority=None):
        os.mkdir(self.path(folder))
        if authority:
            for file in ('ca-cert.pem', 'ca-key.pem'):
                os.link(self.path(authority, file), self.path(folder, file))
        else:
            self.certificate(folder, 'ca', None)
        for role in roles:
            self.certificate(folder, role, folder)
        return self.path(folder)

    def free_port(self):
        with socket.socket() as s:
            s.bind(('127.0.0.1', 0))
            return s.getsockname()[1]

    def refused(self, uri):
        done = bed.run('nbdcopy', uri, self.path('stolen'), check=False)
        self.assertNotEqual(done.returncode, 0, uri)
        self.assertFalse(os.path.exists(self.path('stolen')) and os.path.getsize(self.path('stolen')) and any(open(self.path('stolen'), 'rb').read()), uri)

    def read(self, uri):
        self.nbdcopy(uri, self.path('copy'))
        self.assertEqual(self.img('compare', '-U', '-f', 'raw', '-F', 'qcow2', self.path('copy'), self.image).returncode, 0)


class TlsTest(Pki, bed.LiveTest):
    def setUp(self):
        super().setUp()
        self.image = self.make_image('disk.qcow2', SIZE, data=[(0, SIZE // 2, 7)])
        self.vm = self.engine(self.image)
        self.must('attach', 'g', '--qmp', self.vm.qmp_path)

    def end(self):
        self.must('backup-stop', 'g')
        self.assertEqual(self.json('backup-info', 'g')['state'], 'completed')
        self.assertEqual(self.vm.ours(), [])

    def test_a_certificate_of_the_authority_reads_and_no_other(self):
        pki, stranger = self.pki('pki', 'server', 'client'), self.pki('stranger', 'client')
        os.unlink(self.path('stranger', 'ca-cert.pem'))         # it knows the authority; the authority does not know it
        os.link(self.path('pki', 'ca-cert.pem'), self.path('stranger', 'ca-cert.pem'))
        reader = self.pki('reader', 'client', authority='pki')
        port = self.free_port()
        self.must('backup-begin', 'g', '--mode', 'pull', '--server', f'tcp:127.0.0.1:{port}', '--tls', '--tls-dir', pki)
        self.assertEqual(self.json('backup-info', 'g')['server'], f'nbds://127.0.0.1:{port}')
        self.refused(f'nbd://127.0.0.1:{port}/disk0')
        self.refused(f'nbds://127.0.0.1:{port}/disk0?tls-certificates={stranger}')
        self.read(f'nbds://127.0.0.1:{port}/disk0?tls-certificates={reader}')
        self.end()

    def test_the_directory_of_the_daemon_serves_exports_as_its_manual_says(self):
        pki, reader = self.pki('pki', 'server', 'client'), self.pki('reader', 'client', authority='pki')
        for file in os.listdir(pki):
            if file.endswith('.pem'):
                os.rename(os.path.join(pki, file), os.path.join(pki, file.replace('-cert', 'cert').replace('-key', 'key')))
        with open(os.path.join(bed.TOP, 'docs', 'man', 'libbackupd.8')) as manual:
            links = manual.read().split('Links to the others will do:\n.EX\n')[1].split('.EE')[0].replace('\\', '')
        bed.run('sh', '-ec', links, cwd=pki)
        os.mkdir(self.path('home', 'libbackup'))
        with open(self.path('home', 'libbackup', 'tls.conf'), 'w') as f:
            f.write(f'tls_x509_dir = "{pki}"\n')
        port = self.free_port()
        self.must('backup-begin', 'g', '--mode', 'pull', '--server', f'tcp:127.0.0.1:{port}', '--tls')
        self.read(f'nbds://127.0.0.1:{port}/disk0?tls-certificates={reader}')
        self.end()

    def test_the_key_reads_and_no_other(self):
        for folder in ('keys', 'others'):
            os.mkdir(self.path(folder))
            bed.run(bed.need('psktool', 'gnutls-bin'), '-u', 'reader', '-p', self.path(folder, 'keys.psk'))
        if self.version == '5.2':       # TLS over TCP only
            place = f'127.0.0.1:{self.free_port()}'
            server, uri, bare = f'tcp:{place}', f'nbds://reader@{place}/disk0?', f'nbd://{place}/disk0'
        else:
            sock = self.path('nbd')
            server, uri, bare = f'unix:{sock}', f'nbds+unix://reader@/disk0?socket={sock}&', f'nbd+unix:///disk0?socket={sock}'
        self.must('backup-begin', 'g', '--mode', 'pull', '--server', server, '--tls', '--tls-psk', self.path('keys'))
        uri += f'tls-psk-file={self.path("{}", "keys.psk")}'
        self.refused(bare)
        self.refused(uri.format('others'))
        self.read(uri.format('keys'))
        self.end()

    def test_what_is_missing_is_named_before_anything_starts(self):
        pki = self.pki('pki', 'server', 'client')
        argv = ['backup-begin', 'g', '--mode', 'pull', '--server', f'unix:{self.path("nbd")}', '--tls']
        for name in ('server-key.pem', 'client-cert.pem'):
            os.unlink(self.path('pki', name))
            self.assertIn(name, self.must(*argv, '--tls-dir', pki, rc=1).err)
        self.assertIn('keys.psk', self.must(*argv, '--tls-psk', pki, rc=1).err)
        self.assertIn('tls_x509_dir', self.must(*argv, rc=1).err)
        self.assertEqual(self.vm.ours(), [])
        self.assertEqual(os.listdir(self.path('state', 'guests', 'g', 'scratch')), [])


if __name__ == '__main__':
    bed.main()
