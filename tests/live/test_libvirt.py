#!/usr/bin/python3
"""Guests that libvirt manages: what runs on attached guests runs on them, and what libvirt gets wrong is put right above it.

Where libvirt is wrong the same is done by plain virsh first, as the control: the test would fail on it."""
import json
import os
import re
import subprocess
import time

import bed
import lvbed
import test_point_in_time


class Few:
    """The engine below is the same, so it need not be shown as often."""
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        test_point_in_time.TIMES = min(test_point_in_time.TIMES, 5)


class SamePushTest(lvbed.OnLibvirt, Few, test_point_in_time.PushTest):
    pass


class SamePullTest(lvbed.OnLibvirt, Few, test_point_in_time.PullTest):
    pass


if __name__ == '__main__':
    bed.main()
