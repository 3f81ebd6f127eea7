"""An SFTP server for the folder that is named, on a free loopback port, which is printed."""

import asyncio
import sys

import asyncssh


class OneUser(asyncssh.SSHServer):
    def password_auth_supported(self):
        return True

    def validate_password(self, username, password):
        return (username, password) == ("team", "secret")


async def serve(folder):
    server = await asyncssh.create_server(
        OneUser,
        "127.0.0.1",
        0,
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=folder),
    )
    print(server.get_port(), flush=True)
    await server.wait_closed()


asyncio.run(serve(sys.argv[1]))
