"""``python -m tests.conversations [--peer prosody] [NAME ...]``: play files; ``--differences``: list what differs."""

from __future__ import annotations

import argparse
import sys

from tests.conversations.player import Failed, Play
from tests.conversations.prosody import Prosody
from tests.conversations.script import Conversation, conversations, read


def main() -> int:
    """Exit code 1 when a conversation went another way."""
    parser = argparse.ArgumentParser(prog='python -m tests.conversations', description=__doc__)
    parser.add_argument('--peer', choices=('prosody',), default='prosody')
    parser.add_argument('--differences', action='store_true', help='list what differs between the peers, play nothing')
    parser.add_argument('--all', action='store_true', help='also files that say they are not for this peer')
    parser.add_argument('names', nargs='*', help='parts of file names; default: all')
    options = parser.parse_args()
    found = [read(path) for path in conversations()]
    chosen = [one for one in found if not options.names or any(name in one.path.name for name in options.names)]
    if options.differences:
        for one in chosen:
            show(one)
        return 0
    chosen = [one for one in chosen if options.all or options.peer in one.peers]
    wrong = 0
    with Prosody(f'{user}-{number}' for number, one in enumerate(chosen) for user in one.users) as server:
        for number, one in enumerate(chosen):
            try:
                Play(one, server.peer(f'-{number}')).run()
                print(f'ok      {one.path.name}: {one.title}')
            except Failed as error:
                wrong += 1
                print(f'FAILED  {one.path.name}: {one.title}\n{error}')
    print(f'{len(chosen) - wrong} of {len(chosen)} conversations went as written.')
    return 1 if wrong else 0


def show(one: Conversation) -> None:
    """What a file says about differences."""
    if one.because:
        print(f'{one.path.name}: not with Prosody: {one.because}')
    for text in one.differences:
        print(f'{one.path.name}: {text}')


if __name__ == '__main__':
    sys.exit(main())
