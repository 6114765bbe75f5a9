"""ROS 2 package that runs accelerated Vision-Language-Action models on robot arms."""

from pkgutil import extend_path

# A source tree on sys.path and the generated `efficientvla_ros.msg` in the install space
# are one package: without this line the first one found would hide the other.
__path__ = extend_path(__path__, __name__)

__version__ = '0.1.0'
